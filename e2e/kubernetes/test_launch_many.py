"""A thousand objects arrive while operator and agent are killed again and again: each starts one run. Without nodes."""

import collections
import contextlib
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from api_only import Kubelet, Operator, api_only  # noqa: F401
from cluster import GROUP, Cluster, eventually
from launches import created, document, plan
from moto.server import ThreadedMotoServer
from servers import Buckets, running

OBJECTS = 1000
KILLS = 10
PUT_AND_MEASURED = 20
NAMESPACE = "arrivals"
PLACE = f"{GROUP}/namespaces/{NAMESPACE}"
PREFIX = "incoming/"


class Arrivals:
    """A bucket, a plan that waits for its objects, and who is to see them."""

    def __init__(self, cluster: Cluster, folder, buckets: Buckets):
        self.cluster, self.buckets = cluster, buckets
        self.operator = Operator(cluster, folder, str(folder / "store"), {"AWS_ENDPOINT_URL": buckets.endpoint})
        self.kubelet = Kubelet(cluster, NAMESPACE, folder)
        self.seen = folder / "store" / NAMESPACE / "triggers" / "arrive" / "objects" / "_seen"
        buckets.client.create_bucket(Bucket="arrivals")

    def prepare(self):
        self.cluster.kubectl("create", "namespace", NAMESPACE)
        self.cluster.kubectl("create", "serviceaccount", "pintail-runner", "-n", NAMESPACE)
        bucket = {"bucket": "arrivals", "endpoint": self.buckets.endpoint, "pathStyle": True}
        told = {
            "inputs": [{"name": "path", "type": "VARCHAR"}],
            "tasks": [{"name": "one", "uses": ["path"], "duckdb": {"query": "SELECT $path AS path"}}],
        }
        arrive = {
            "name": "objects",
            "object": {"connection": "raw", "path": f"{PREFIX}*", "every": "1s", "start": "Beginning"},
            "inputs": {"path": "$(trigger.object.path)"},
        }
        keep = {"keepSucceeded": 10000, "keepFailed": 10000}
        self.cluster.apply(
            NAMESPACE,
            document("Connection", "raw", {"s3": bucket}),
            document("Workflow", "told", told),
            plan("arrive", "told", arrive, history=keep),
        )

    @contextlib.contextmanager
    def running(self):
        self.operator.start()
        try:
            with running(self.kubelet):
                yield
        finally:
            self.operator.stop()

    def put(self, name: str):
        self.buckets.client.put_object(Bucket="arrivals", Key=f"{PREFIX}{name}", Body=name.encode())

    def executions(self) -> list[dict]:
        return self.cluster.items(f"{PLACE}/executions")

    def names(self) -> set[str]:
        """Of the Executions, without what is in them."""
        headers = {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}
        found = self.cluster.ask("GET", f"{PLACE}/executions", headers=headers).json()["items"] or []
        return {execution["metadata"]["name"] for execution in found}

    def count(self) -> int:
        return len(self.names())

    def reach(self, count: int, deadline_s: float = 120):
        wanted = lambda: f"{count} runs, not {self.count()}: {self.logs()}"  # noqa: E731
        eventually(lambda: self.count() >= count, wanted, deadline_s, every_s=0.3)

    def logs(self) -> str:
        return "\n".join(log.read_text()[-3000:] for log in (self.operator.log, self.kubelet.folder / "agent.log"))


@pytest.fixture(scope="module")
def arrivals(api_only, tmp_path_factory):  # noqa: F811
    with running(ThreadedMotoServer("127.0.0.1", 0, verbose=False)) as server:
        arrivals = Arrivals(api_only, tmp_path_factory.mktemp("arrivals"), Buckets(server))
        arrivals.prepare()
        with arrivals.running():
            yield arrivals


def kill_while_they_arrive(arrivals: Arrivals) -> collections.Counter:
    """Each is killed ten times, whenever some more runs are there."""
    kills = collections.Counter()
    step = OBJECTS // (2 * KILLS + 1)
    for number in range(KILLS):
        arrivals.reach((2 * number + 1) * step)
        eventually(arrivals.kubelet.kill_agent, "an agent to kill", 60)
        kills["agents killed"] += 1
        arrivals.reach((2 * number + 2) * step)
        arrivals.operator.kill()
        arrivals.operator.start()
        kills["operators killed"] += 1
    return kills


@pytest.mark.timeout(500)
def test_a_thousand_objects_start_a_run_each_whoever_is_killed(arrivals, record_property):
    begin = arrivals.cluster.audit_end()
    with ThreadPoolExecutor(4) as pool:
        put = [pool.submit(arrivals.put, f"{number:04}") for number in range(OBJECTS)]
        kills = kill_while_they_arrive(arrivals)
        for one in put:
            one.result()
    arrivals.reach(OBJECTS)
    found = arrivals.executions()
    paths = collections.Counter(execution["spec"]["inputs"]["path"] for execution in found)
    assert set(paths) == {f"{PREFIX}{number:04}" for number in range(OBJECTS)}
    assert set(paths.values()) == {1}, paths.most_common(3)
    # Nor was one created again after it was gone. The request of an operator that was killed has no good end in the log.
    names = created(arrivals.cluster, begin, NAMESPACE)
    assert len(names) == len(set(names)) and set(names) <= {execution["metadata"]["name"] for execution in found}
    assert min(kills.values()) == KILLS
    record_property("runs of objects", f"{len(found)}, {dict(kills)}")


@pytest.mark.timeout(500)
def test_what_was_pruned_does_not_start_again_even_if_it_is_told_again(arrivals, record_property):
    """The set of seen objects is lost, too, so that the agent tells of all that ran and is gone."""

    def ended() -> bool:
        return all("completionTime" in execution.get("status", {}) for execution in arrivals.executions())

    eventually(ended, lambda: f"the end of all runs: {arrivals.logs()}", 300, every_s=2)
    arrivals.cluster.patch(f"{PLACE}/launchplans/arrive", {"spec": {"history": {"keepSucceeded": 0, "keepFailed": 0}}})
    eventually(lambda: not arrivals.count(), lambda: f"no runs, not {arrivals.count()}: {arrivals.logs()}", 120, every_s=0.5)
    # An agent that was killed may not have written it yet.
    eventually(arrivals.seen.exists, lambda: f"the set of what was seen: {arrivals.logs()}", 60)
    arrivals.operator.kill()
    begin = arrivals.cluster.audit_end()
    with arrivals.kubelet.without_agent():
        # One that runs writes it again.
        arrivals.seen.unlink()
    arrivals.operator.start()
    # Told of in the order of their times: this one is the last.
    arrivals.put("last")

    def started() -> list[str]:
        return created(arrivals.cluster, begin, NAMESPACE)

    eventually(started, lambda: f"the run of the last object: {arrivals.logs()}", 120, every_s=0.5)
    told = (arrivals.kubelet.folder / "agent.log").read_text().count(" starts arrive-")
    assert told > OBJECTS, told
    assert len(started()) == 1, started()
    record_property("told again after they were pruned", told - OBJECTS)


@pytest.mark.timeout(500)
def test_an_object_that_was_put_starts_its_run_at_the_next_look(arrivals, record_property):
    """The agent looks each second. How long it takes is shown, not judged."""
    lags_s = []
    for number in range(PUT_AND_MEASURED):
        # At any moment between two looks.
        moment = time.monotonic() + random.random()
        eventually(lambda moment=moment: time.monotonic() >= moment, "the moment", 10, every_s=0.02)
        before = arrivals.names()
        start = time.monotonic()
        arrivals.put(f"measured-{number:03}")

        def is_started(before=before) -> bool:
            return bool(arrivals.names() - before)

        eventually(is_started, lambda: f"a run: {arrivals.logs()}", 60, every_s=0.03)
        lags_s.append(time.monotonic() - start)
    lags_s.sort()
    middle, longest = lags_s[len(lags_s) // 2], lags_s[-1]
    record_property("object put to Execution created", f"p50 {middle:.2f} s, longest {longest:.2f} s, of {len(lags_s)}")

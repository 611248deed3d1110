"""An operator that is replaced in mid-run by a build whose format numbers are one higher, see `scripts/build newer`."""

import base64
import json

from cluster import condition, eventually, unpacked
from installation import BUILT, NEWER, SYSTEM


class Formats:
    """The format numbers of what a run left behind."""

    def __init__(self, installation, namespace: str, name: str):
        self.installation, self.cluster, self.namespace = installation, installation.cluster, namespace
        self.execution = self.cluster.object(namespace, "executions", name)

    def stored(self, key: str) -> bytes:
        return self.installation.buckets.get("pintail-store", f"results/{self.namespace}/{key}")

    def order(self, task: str) -> int:
        (pod,) = [
            pod
            for pod in self.cluster.pods(self.namespace)
            if pod["metadata"]["annotations"]["pintail.dev/task"] == task
            and pod["metadata"]["annotations"]["pintail.dev/execution"] == self.execution["metadata"]["name"]
        ]
        (text,) = [
            variable["value"]
            for variable in pod["spec"]["containers"][0]["env"]
            if variable["name"] == "PINTAIL_WORK_ORDER"
        ]
        return unpacked(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))["format"]

    def report(self, task: str) -> int:
        commit = json.loads(self.stored(f"runs/{self.execution['metadata']['uid']}/{task}/_commit"))
        report = json.loads(self.installation.buckets.get("pintail-store", f"results/{commit['report']}"))
        assert report["format"] == commit["format"]
        return commit["format"]

    def state(self) -> int:
        """Once the run has ended its state stands only in the record of it in the store."""
        status = self.execution["status"]
        if "state" not in status:
            date, uid = status["completionTime"][:10], self.execution["metadata"]["uid"]
            record = unpacked(self.stored(f"history/date={date}/{uid}.json.zst"))
            status = record["execution"]["status"]
            assert record["format"] == unpacked(base64.b64decode(status["state"]))["format"]
        return unpacked(base64.b64decode(status["state"]))["format"]

    def revision(self) -> int:
        name = self.execution["status"]["resolved"]["revision"]
        place = f"/apis/apps/v1/namespaces/{self.namespace}/controllerrevisions/{name}"
        return self.cluster.get(place)["data"]["format"]


def test_a_run_goes_on_with_a_build_of_newer_formats(new_namespace, held, installation, gate):
    cluster = installation.cluster
    installation.start(held, "held", "run")
    assert gate.reached.wait(60), cluster.describe(held)
    before = Formats(installation, held, "run")
    assert (before.order("before"), before.state(), before.revision()) == (1, 1, 1)
    cluster.kubectl("-n", SYSTEM, "scale", "deployment", "pintail-operator", "--replicas=0")
    try:
        eventually(lambda: not installation.operators(), "the end of the old operator", 60)
        gate.open.set()

        def over():
            pods = cluster.pods(held)
            return pods if [pod["status"].get("phase") for pod in pods] == ["Succeeded"] else None

        (pod,) = eventually(over, "the end of the first task", 60)
        # So that the commit is what tells of the result.
        cluster.delete(f"/api/v1/namespaces/{held}/pods/{pod['metadata']['name']}", gracePeriodSeconds=0)
        installation.upgrade(NEWER)
        goes_on(installation, held)
        starts_anew(installation, new_namespace("newer"), cluster.object(held, "workflows", "quick"))
    finally:
        # An older build does not read what a newer one wrote.
        for namespace in new_namespace.made:
            installation.delete_namespace(namespace)
        installation.upgrade(BUILT)


def goes_on(installation, namespace: str) -> None:
    """The run is finished from what the older build wrote, with the runner that it was pinned with."""
    execution = installation.finished(namespace, "run")
    assert condition(execution, "Succeeded")["status"] == "True", installation.cluster.describe(namespace)
    # The first task was not done again.
    assert {entry["name"]: entry["attempt"] for entry in execution["status"]["taskList"]} == {"before": 1, "after": 1}
    seen = Formats(installation, namespace, "run")
    assert (seen.revision(), seen.report("before"), seen.order("after"), seen.report("after")) == (1, 1, 1, 1)
    assert seen.state() == 2, "the record is of the build that wrote it last"


def starts_anew(installation, namespace: str, workflow: dict) -> None:
    """A run that begins afterwards has the newer formats throughout."""
    document = {key: workflow[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": {"name": "quick"}}
    installation.cluster.apply(namespace, document)
    execution = installation.execute(namespace, "quick", "run")
    assert condition(execution, "Succeeded")["status"] == "True", installation.cluster.describe(namespace)
    seen = Formats(installation, namespace, "run")
    assert (seen.revision(), seen.order("one"), seen.report("one"), seen.state()) == (2, 2, 2, 2)

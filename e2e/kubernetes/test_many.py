"""A thousand stored Executions: an operator that starts anew is soon at rest. Without nodes, so without root."""

import contextlib
import datetime
import json
import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cluster import GROUP, ROOT, Cluster, eventually
from moto.server import ThreadedMotoServer
from servers import Buckets, Mailbox, running
from workspace import Workspace

STORED = 1000
# What the issue asks for: no write for so long, and that within so much of holding the lease.
QUIET_S, WITHIN_S = 5, 15


@pytest.fixture(scope="module")
def api_only():
    command = [str(ROOT / "scripts/cluster"), "api-only"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        kubeconfig = process.stdout.readline().strip().partition("=")[2]
        while process.stdout.readline().strip() != "ready":
            assert process.poll() is None, "the API server did not start"
        log = Path(kubeconfig).parent / "audit.log"
        tools = subprocess.run([str(ROOT / "scripts/cluster"), "build"], check=True, capture_output=True, text=True)
        path = f"{tools.stdout.strip()}:{os.environ['PATH']}"
        environment = os.environ | {"KUBECONFIG": kubeconfig, "PATH": path, "PINTAIL_CLUSTER_AUDIT_LOG": str(log)}
        with running(Cluster(environment)) as cluster:
            yield cluster
    finally:
        process.stdin.close()
        process.wait(30)


class Operator:
    """bin/pintail-operator on this machine."""

    def __init__(self, cluster: Cluster, folder: Path, endpoint: str):
        self.cluster = cluster
        self.settings = folder / "settings.json"
        settings = {
            "namespace": "pintail-system",
            "store": {"uri": "s3://many/results", "environment": {"AWS_ENDPOINT_URL": endpoint}},
            "runner": {"image": "pintail-runner:none", "serviceAccount": "pintail-runner", "podTtlSeconds": 3600},
        }
        self.settings.write_text(json.dumps(settings))
        credential = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_REGION": "us-east-1"}
        self.environment = cluster.environment | credential | {"AWS_ENDPOINT_URL": endpoint}
        self.log = folder / "operator.log"

    @contextlib.contextmanager
    def running(self):
        with open(self.log, "w") as log:
            process = subprocess.Popen(
                [ROOT / "bin/pintail-operator", "--settings", self.settings, "--listen", "127.0.0.1:0"],
                env=self.environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
            try:
                yield process
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(30)

    def leading_since(self) -> datetime.datetime | None:
        for line in self.log.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                entry = json.loads(line)
                if entry["message"] == "leading":
                    return datetime.datetime.fromisoformat(entry["time"])
        return None


def peak_mb(pid: int) -> float:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def last_write(cluster: Cluster, begin: int, since: datetime.datetime) -> datetime.datetime:
    """When an object of ours or a pod was last written, or `since`."""
    times = [datetime.datetime.fromisoformat(event["stageTimestamp"]) for event in cluster.audit(begin)]
    return max([since, *times])


def await_rest(cluster: Cluster, operator: Operator, begin: int, deadline_s: float) -> float:
    """Waits until nothing was written for a while. Gives how long after the lease the last write was, in seconds."""
    since = eventually(operator.leading_since, lambda: f"the lease:\n{operator.log.read_text()[-3000:]}", 40)

    def rest():
        now = datetime.datetime.now(datetime.UTC)
        last = last_write(cluster, begin, since)
        return last if (now - last).total_seconds() >= QUIET_S else None

    last = eventually(rest, "rest", deadline_s, every_s=0.3)
    return (last - since).total_seconds()


def store(cluster: Cluster, finished: dict) -> None:
    """Copies of one finished Execution, as if each had run."""
    place = f"{GROUP}/namespaces/default/executions"

    def one(number: int):
        document = {
            "apiVersion": "pintail.dev/v1alpha1",
            "kind": "Execution",
            "metadata": {"name": f"stored-{number}"},
            "spec": finished["spec"],
        }
        cluster.create(place, document)
        cluster.patch(f"{place}/stored-{number}/status", {"status": finished["status"]})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(STORED)))


@pytest.mark.timeout(300)
def test_an_operator_started_on_a_thousand_executions_is_soon_at_rest(api_only, tmp_path, record_property):
    for definition in sorted((ROOT / "crds").glob("*.yaml")):
        api_only.kubectl("apply", "--server-side", "-f", str(definition))
    api_only.kubectl("create", "namespace", "pintail-system")
    eventually(lambda: api_only.get(f"{GROUP}/executions"), "the kinds", 20)
    with running(ThreadedMotoServer("127.0.0.1", 0, verbose=False)) as server, running(Mailbox()) as mailbox:
        buckets = Buckets(server)
        buckets.client.create_bucket(Bucket="many")
        finished = Workspace(tmp_path / "local", mailbox, buckets, lambda: 0).example("retail-summary", "local")
        store(api_only, finished["retail-summary"])
        operator = Operator(api_only, tmp_path, buckets.endpoint)
        begin = api_only.audit_end()
        with operator.running() as process:
            took = await_rest(api_only, operator, begin, 150)
            record_property("first start", f"last write {took:.1f} s after the lease, {peak_mb(process.pid):.0f} MB")
        begin = api_only.audit_end()
        with operator.running() as process:
            took = await_rest(api_only, operator, begin, WITHIN_S + 2 * QUIET_S + 10)
            writes = len(api_only.audit(begin))
            record_property(
                "restart", f"{writes} writes, the last {took:.1f} s after the lease, {peak_mb(process.pid):.0f} MB"
            )
            assert took <= WITHIN_S, operator.log.read_text()[-3000:]

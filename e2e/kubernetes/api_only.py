"""A cluster without nodes: the API server, the operator and agents as processes of this machine, and a kubelet that ends
each task at once."""

import contextlib
import datetime
import json
import os
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from cluster import GROUP, ROOT, Cluster, Refused, Unavailable, eventually
from servers import free_port, running

RUNNER = ROOT / "bin" / "pintail-runner"
CREDENTIAL = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_REGION": "us-east-1"}
# Requests at the same time.
AT_ONCE = 4
# Exit code of a runner whose task failed for good.
PERMANENT = 4


@pytest.fixture(scope="module")
def api_only():
    """With the kinds of Pintail and the operator's namespace."""
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
            for definition in sorted((ROOT / "crds").glob("*.yaml")):
                cluster.kubectl("apply", "--server-side", "-f", str(definition))
            cluster.kubectl("create", "namespace", "pintail-system")
            eventually(lambda: cluster.get(f"{GROUP}/executions"), "the kinds", 20)
            yield cluster
    finally:
        process.stdin.close()
        process.wait(30)


class Operator:
    """bin/pintail-operator on this machine. It is the same replica however often it is started."""

    def __init__(self, cluster: Cluster, folder: Path, store: str, environment: dict[str, str]):
        self.cluster = cluster
        self.agents_port = free_port()
        self.settings = folder / "settings.json"
        settings = {
            "namespace": "pintail-system",
            "store": {"uri": store, "environment": environment},
            "runner": {"image": "pintail-runner:none", "serviceAccount": "pintail-runner", "podTtlSeconds": 3600},
            "agents": {"operatorUrl": f"http://127.0.0.1:{self.agents_port}"},
        }
        self.settings.write_text(json.dumps(settings))
        replica = {"POD_NAME": "operator", "POD_UID": folder.name}
        self.environment = cluster.environment | CREDENTIAL | environment | replica
        self.log = folder / "operator.log"
        self.process = None

    def start(self):
        with open(self.log, "a") as log:
            listen = ["--listen", "127.0.0.1:0", "--listen-agents", f"127.0.0.1:{self.agents_port}"]
            self.process = subprocess.Popen(
                [ROOT / "bin/pintail-operator", "--settings", self.settings, *listen],
                env=self.environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def kill(self):
        self.process.kill()
        self.process.wait(10)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)

    @contextlib.contextmanager
    def running(self):
        self.log.write_text("")
        self.start()
        try:
            yield self.process
        finally:
            self.stop()

    def leading_since(self) -> datetime.datetime | None:
        for line in self.log.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                entry = json.loads(line)
                if entry["message"] == "leading":
                    return datetime.datetime.fromisoformat(entry["time"])
        return None


class Kubelet:
    """A stub: the pod of a task has failed as soon as it is seen, which costs one request; an agent is a process."""

    def __init__(self, cluster: Cluster, namespace: str, folder: Path):
        self.cluster, self.namespace, self.folder = cluster, namespace, folder
        self.agent: subprocess.Popen | None = None
        self._agent_uid = ""
        self._seen: set[str] = set()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._tasks = ThreadPoolExecutor(AT_ONCE)
        self._thread = threading.Thread(target=self._watch)
        self._place = f"/api/v1/namespaces/{namespace}/pods"

    def start(self):
        self._thread.start()

    def stop(self):
        self._over.set()
        self._thread.join(60)
        self._tasks.shutdown(cancel_futures=True)
        self._end_agent(signal.SIGTERM)

    def kill_agent(self) -> bool:
        """As a container that is killed; it is started again. False where none runs."""
        with self._lock:
            return self._end_agent(signal.SIGKILL)

    @contextlib.contextmanager
    def without_agent(self):
        """It is killed, and not started again meanwhile."""
        with self._lock:
            self._end_agent(signal.SIGKILL)
            yield

    def _end_agent(self, by: signal.Signals) -> bool:
        if self.agent is None or self.agent.poll() is not None:
            return False
        self.agent.send_signal(by)
        self.agent.wait(30)
        return True

    def _watch(self):
        while not self._over.wait(0.3):
            # Asked again where the API server does not answer.
            with contextlib.suppress(requests.RequestException, Unavailable, Refused):
                self._look()

    def _look(self):
        # Without those that it ended.
        selectors = {"labelSelector": "app.kubernetes.io/managed-by=pintail", "fieldSelector": "status.phase!=Failed"}
        pods = self.cluster.pods(self.namespace, **selectors)
        for pod in pods:
            uid = pod["metadata"]["uid"]
            if pod["metadata"]["labels"]["app.kubernetes.io/name"] == "pintail-agent" or uid in self._seen:
                continue
            self._seen.add(uid)
            self._tasks.submit(self._end_task, pod)
        agents = [pod for pod in pods if pod["metadata"]["labels"]["app.kubernetes.io/name"] == "pintail-agent"]
        for pod in agents:
            # No node has it, so that nobody else lets it go.
            if "deletionTimestamp" in pod["metadata"]:
                self.cluster.delete(f"{self._place}/{pod['metadata']['name']}", gracePeriodSeconds=0)
        newest = max(agents, key=lambda pod: pod["metadata"]["creationTimestamp"], default=None)
        with self._lock:
            self._keep_agent(newest)

    def _keep_agent(self, pod: dict | None):
        uid = pod["metadata"]["uid"] if pod else ""
        if uid != self._agent_uid:
            self._end_agent(signal.SIGTERM)
            self.agent, self._agent_uid = None, uid
        if pod is None or self.agent and self.agent.poll() is None:
            return
        token = self.folder / "token"
        token.write_text(self._token(pod))
        command = [RUNNER, "agent", "--listen", "127.0.0.1:0", "--token", token]
        with open(self.folder / "agent.log", "a") as log:
            self.agent = subprocess.Popen(command, env=self._environment(pod), stdout=log, stderr=log)
        ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        self.cluster.patch(f"{self._place}/{pod['metadata']['name']}/status", {"status": ready})

    def _token(self, pod: dict) -> str:
        """The one that a kubelet would mount."""
        account = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{pod['spec']['serviceAccountName']}"
        bound = {"apiVersion": "v1", "kind": "Pod", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
        spec = {"audiences": ["pintail"], "expirationSeconds": 3600, "boundObjectRef": bound}
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        return self.cluster.create(f"{account}/token", request)["status"]["token"]

    def _environment(self, pod: dict) -> dict[str, str]:
        (container,) = pod["spec"]["containers"]
        given = {entry["name"]: entry["value"].replace("$$", "$") for entry in container["env"] if "value" in entry}
        # Scratch space is a folder of this machine.
        mine = {"POD_UID": pod["metadata"]["uid"], "TMPDIR": str(self.folder)}
        return {"PATH": os.environ["PATH"]} | CREDENTIAL | given | mine

    def _end_task(self, pod: dict):
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        failure = {"class": "Permanent", "reason": "NotDone", "message": "no node does the work of tasks here"}
        said = json.dumps({"format": 1, "failure": failure})
        ended = {"exitCode": PERMANENT, "reason": "Error", "startedAt": now, "finishedAt": now, "message": said}
        container = {
            "name": "task", "image": "none", "imageID": "", "ready": False, "restartCount": 0,
            "state": {"terminated": ended},
        }  # fmt: skip
        status = {"status": {"phase": "Failed", "containerStatuses": [container]}}
        # Whoever deleted it does not wait for its end.
        with contextlib.suppress(Refused):
            place = f"{self._place}/{pod['metadata']['name']}/status"
            eventually(lambda: self.cluster.patch(place, status), "the end of a pod", 30)

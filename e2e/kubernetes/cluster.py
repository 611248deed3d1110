"""A Kubernetes cluster as tests see it: kubectl for what users do, the API through `kubectl proxy` for asking often."""

import contextlib
import json
import os
import re
import shlex
import subprocess
import threading
import time
from pathlib import Path

import pyarrow
import requests
import yaml

ROOT = Path(__file__).resolve().parents[2]
# Beside a developer's own cluster, which is named `pintail`; `PINTAIL_E2E_CLUSTER` is for several sessions on one machine.
# Where tests run in two processes, the second (`gw1`) has a cluster of its own.
NAME = (os.environ.get("PINTAIL_E2E_CLUSTER") or "e2e") + ("-2" if os.environ.get("PYTEST_XDIST_WORKER") == "gw1" else "")
GROUP = "/apis/pintail.dev/v1alpha1"
KINDS = ("workflows", "launchplans", "executions", "artifacts", "connections")


# What kubectl says where no API server answers.
AWAY = ("connection refused", "connection reset", "EOF", "http2: ", "ServiceUnavailable", "Unable to connect")


def eventually(condition, what: str, deadline_s: float = 60, every_s: float = 0.1):
    """Asks until the condition gives something true, and gives that. An answer that cannot be had counts as no."""
    end = time.monotonic() + deadline_s
    last = None
    while True:
        try:
            if result := condition():
                return result
        except (requests.RequestException, Unavailable) as error:
            last = error
        if time.monotonic() > end:
            cause = f"; last: {last}" if last else ""
            raise AssertionError(f"waited {deadline_s:.0f} s in vain for {what() if callable(what) else what}{cause}")
        time.sleep(every_s)


class Unavailable(Exception):
    """The API server is not there, or not ready."""


class Refused(Exception):
    """The API server said no: `code`, and its text."""

    def __init__(self, code: int, text: str):
        super().__init__(f"{code}: {text}")
        self.code = code


def of_cluster(*arguments: str) -> list[str]:
    return [str(ROOT / "scripts/cluster"), "--name", NAME, *arguments]


def start() -> dict[str, str]:
    """Variables for kubectl and helm; starts the test cluster unless KUBECONFIG says which to use."""
    if os.environ.get("KUBECONFIG"):
        return dict(os.environ)
    subprocess.run(of_cluster("up"), check=True, stdout=subprocess.DEVNULL)
    text = subprocess.run(of_cluster("env"), check=True, capture_output=True, text=True).stdout
    script = f"{text}\nenv -0"
    shown = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True).stdout
    return dict(line.split("=", 1) for line in shown.split("\0") if line)


class Cluster:
    def __init__(self, environment: dict[str, str]):
        self.environment = environment
        self.host = environment.get("PINTAIL_CLUSTER_HOST", "")
        log = environment.get("PINTAIL_CLUSTER_AUDIT_LOG")
        self.audit_log = Path(log) if log else None
        # Whether it is the cluster of this repository, whose components a test may end.
        self.is_ours = not os.environ.get("KUBECONFIG")
        self.session = requests.Session()
        # Many threads ask at once.
        self.session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=64))
        self.address = ""
        self._proxy = None

    def start(self):
        """`kubectl proxy` makes any kind of kubeconfig a plain address."""
        command = ["kubectl", "proxy", "--port=0", "--append-server-path"]
        self._proxy = subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, text=True)
        line = self._proxy.stdout.readline()
        found = re.search(r"127\.0\.0\.1:\d+", line)
        assert found, f"kubectl proxy says {line!r}"
        self.address = f"http://{found.group()}"

    def stop(self):
        self._proxy.terminate()
        self._proxy.wait(10)

    # --- what users do

    def run(self, *command: str, input: str | None = None, check: bool = True, timeout_s: float = 120):
        finished = subprocess.run(
            [str(part) for part in command],
            cwd=ROOT, env=self.environment, input=input, capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
        if check and finished.returncode != 0:
            raise AssertionError(f"{shlex.join(map(str, command))}\n{finished.stdout}\n{finished.stderr}")
        return finished

    def kubectl(self, *arguments: str, **options) -> str:
        return self.run("kubectl", *arguments, **options).stdout

    def apply_from(self, namespace: str, *source: str, **options) -> str:
        """As often as it takes to reach the API server: applying twice is applying once."""
        command = ["kubectl", "apply", "-n", namespace, *source]

        def applied() -> str:
            finished = self.run(*command, check=False, **options)
            if finished.returncode == 0:
                return finished.stdout
            if any(sign in finished.stderr for sign in AWAY):
                raise Unavailable(finished.stderr)
            raise AssertionError(f"{shlex.join(command)}\n{finished.stdout}\n{finished.stderr}")

        return eventually(applied, "an answer to kubectl apply")

    # --- the API

    def ask(self, method: str, path: str, **options) -> requests.Response:
        response = self.session.request(method, self.address + path, timeout=20, **options)
        if response.status_code >= 500 or response.status_code == 429:
            raise Unavailable(f"{method} {path}: {response.status_code}: {response.text[:200]}")
        if response.status_code >= 400:
            raise Refused(response.status_code, response.text)
        return response

    def get(self, path: str, **parameters) -> dict | None:
        try:
            return self.ask("GET", path, params=parameters).json()
        except Refused as error:
            if error.code == 404:
                return None
            raise

    def items(self, path: str, **parameters) -> list[dict]:
        return (self.get(path, **parameters) or {}).get("items", [])

    def create(self, path: str, document: dict) -> dict:
        return self.ask("POST", path, json=document).json()

    def ensure(self, path: str, document: dict) -> bool:
        """Creates an object whose name nobody else takes. It may be there: the answer to a request can be lost."""
        try:
            self.create(path, document)
        except Refused as error:
            if error.code != 409:
                raise
        return True

    def patch(self, path: str, change: dict) -> dict:
        headers = {"Content-Type": "application/merge-patch+json"}
        return self.ask("PATCH", path, data=json.dumps(change), headers=headers).json()

    def apply(self, namespace: str, *documents: dict) -> None:
        """As `kubectl apply --server-side`, of which each call costs a tenth of a second of processor time."""
        headers = {"Content-Type": "application/apply-patch+yaml"}
        for document in documents:
            options = {"params": {"fieldManager": "e2e", "force": "true"}, "data": yaml.safe_dump(document), "headers": headers}
            place = place_of(document, namespace)
            eventually(lambda place=place, options=options: self.ask("PATCH", place, **options), f"an answer about {place}")

    def delete(self, path: str, **options) -> None:
        with contextlib.suppress(Refused):
            self.ask("DELETE", path, json=options or None)

    def objects(self, namespace: str, kind: str) -> list[dict]:
        return self.items(f"{GROUP}/namespaces/{namespace}/{kind}")

    def object(self, namespace: str, kind: str, name: str) -> dict | None:
        return self.get(f"{GROUP}/namespaces/{namespace}/{kind}/{name}")

    def pods(self, namespace: str, **parameters) -> list[dict]:
        return self.items(f"/api/v1/namespaces/{namespace}/pods", **parameters)

    # --- what is there to look at when something went wrong

    def describe(self, namespace: str) -> str:
        commands = [
            ["get", ",".join([*KINDS, "pods", "pvc"]), "-o", "wide"],
            ["describe", "executions"],
            ["describe", "pods"],
            ["events"],
        ]
        parts = [f"===== namespace {namespace}"]
        for command in commands:
            finished = self.run("kubectl", "-n", namespace, *command, check=False)
            parts.append(f"--- kubectl {' '.join(command)}\n{finished.stdout[-12000:]}{finished.stderr[-2000:]}")
        return "\n".join(parts)

    def audit(self, since: int = 0) -> list[dict]:
        """Events of the audit log from a place in it on, without those that were refused or read only."""
        with open(self.audit_log, "rb") as log:
            log.seek(since)
            lines = log.read().split(b"\n")
        events = [json.loads(line) for line in lines[:-1] if line]
        return [event for event in events if event.get("responseStatus", {}).get("code", 500) < 300]

    def audit_end(self) -> int:
        return self.audit_log.stat().st_size


class Gate:
    """Holds whoever passes until it is opened."""

    def __init__(self):
        self.open = threading.Event()
        self.reached = threading.Event()

    def pass_(self):
        self.reached.set()
        self.open.wait(120)


def place_of(document: dict, namespace: str) -> str:
    """The path of an object of one of the kinds that tests apply."""
    version, kind, name = document["apiVersion"], document["kind"], document["metadata"]["name"]
    group = f"/apis/{version}" if "/" in version else f"/api/{version}"
    within = "" if kind in ("Namespace", "PersistentVolume") else f"/namespaces/{namespace}"
    return f"{group}{within}/{kind.lower()}s/{name}"


def condition(thing: dict | None, kind: str) -> dict:
    """The condition of this type, or none of its fields."""
    conditions = ((thing or {}).get("status") or {}).get("conditions", [])
    found = conditions if isinstance(conditions, list) else []
    return next((entry for entry in found if entry["type"] == kind), {})


def unpacked(packed: bytes) -> dict:
    """Of zstd of JSON."""
    return json.loads(pyarrow.CompressedInputStream(pyarrow.BufferReader(packed), "zstd").read())


def is_over(execution: dict | None) -> bool:
    return condition(execution, "Succeeded").get("status") in ("True", "False")

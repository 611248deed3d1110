"""A Kubernetes API server without nodes, and a namespace of it."""

import contextlib
import json
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "scripts/cluster"


def eventually(condition, deadline_s: float = 30):
    """Asks until the condition gives something true, and gives that."""
    end = time.monotonic() + deadline_s
    while not (result := condition()):
        assert time.monotonic() < end, "it did not come to pass in time"
        time.sleep(0.05)
    return result


class ApiServer:
    """kubectl for what users and the operator do."""

    def __init__(self, kubeconfig: Path, kubectl: Path):
        self.kubeconfig = kubeconfig
        self._kubectl = kubectl

    def kubectl(self, *arguments: str, document: dict | None = None) -> str:
        finished = subprocess.run(
            [str(self._kubectl), "--kubeconfig", str(self.kubeconfig), *map(str, arguments)],
            input=json.dumps(document) if document else None,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert finished.returncode == 0, f"kubectl {arguments}: {finished.stderr}"
        return finished.stdout


class Namespace:
    """A namespace of the API server, with the tests in the operator's place."""

    def __init__(self, server: ApiServer, name: str):
        self.server, self.name = server, name
        self.flags = ["--kubeconfig", str(server.kubeconfig), "-n", name]

    def kubectl(self, *arguments: str, document: dict | None = None) -> str:
        return self.server.kubectl("-n", self.name, *arguments, document=document)

    def apply(self, document: dict):
        self.kubectl("apply", "-f", "-", document=document)

    def get(self, kind: str, name: str) -> dict:
        return json.loads(self.kubectl("get", kind, name, "-o", "json"))

    def names(self, kind: str) -> list[str]:
        return self.kubectl("get", kind, "-o", "jsonpath={.items[*].metadata.name}").split()

    def write_status(self, name: str, status: dict):
        patch = json.dumps({"status": status})
        self.kubectl("patch", "executions.pintail.dev", name, "--subresource=status", "--type=merge", "-p", patch)


@contextlib.contextmanager
def api_only():
    """The kubeconfig of an API server that lives as long as this context."""
    process = subprocess.Popen([CLUSTER, "api-only"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        kubeconfig = process.stdout.readline().strip().partition("=")[2]
        assert process.stdout.readline() == "ready\n", "the API server did not start"
        yield Path(kubeconfig)
    finally:
        process.stdin.close()
        process.wait(30)

"""An API server once a worker; a namespace for each test."""

import os
import subprocess
from pathlib import Path

import pytest
from api_server import CLUSTER, ROOT, ApiServer, Namespace, api_only
from workspace import Workspace


@pytest.fixture(scope="session")
def api_server():
    built = subprocess.run([CLUSTER, "build"], check=True, capture_output=True, text=True).stdout
    with api_only() as kubeconfig:
        server = ApiServer(kubeconfig, Path(built.strip()) / "kubectl")
        server.kubectl("apply", "-f", ROOT / "crds")
        server.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        yield server


@pytest.fixture
def namespace(api_server):
    name = "test-" + os.urandom(4).hex()
    api_server.kubectl("create", "namespace", name)
    return Namespace(api_server, name)


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "workspace", mailbox=None, buckets=None, postgres_port=None)

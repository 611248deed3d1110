"""One cluster, one installation and one set of servers for all tests of a process; a namespace for each test."""

import contextlib
import itertools
import logging
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

# So that their assertions tell what differs.
pytest.register_assert_rewrite("scenarios", "compare")

from cluster import Cluster, Gate, eventually, start
from installation import BUILT, Installation, example_servers
from moto.server import ThreadedMotoServer
from scenarios import SCENARIOS, OnCluster, run_locally
from servers import Buckets, Mailbox, Postgres, Receiver, running
from workspace import Workspace

for name in ("werkzeug", "mail.log", "botocore", "urllib3"):
    logging.getLogger(name).setLevel(logging.ERROR)

# Scenarios that run at the same time: pods wait for each other anyway on two processors.
AT_ONCE = 4
HELD_NUMBERS = itertools.count()


def pytest_sessionstart(session):
    if missing := BUILT.missing():
        raise pytest.UsageError(f"{', '.join(missing)} missing: `make build` makes them")
    if not os.environ.get("KUBECONFIG") and os.geteuid() != 0:
        raise pytest.UsageError("the cluster needs root: run `make e2e` as root, or set KUBECONFIG to a cluster of yours")
    if not hasattr(session.config, "workerinput"):
        BUILT.make_images()


def pytest_terminal_summary(terminalreporter):
    """What tests noted for people: seeds, counts, measurements."""
    for report in terminalreporter.stats.get("passed", []) + terminalreporter.stats.get("failed", []):
        for name, value in report.user_properties if report.when == "call" else []:
            terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {name}: {value}")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """On failure: the operator's log, and what stands in the namespaces of the test."""
    outcome = yield
    report = outcome.get_result()
    installation = item.funcargs.get("installation")
    if report.failed and installation:
        report.sections.append(("operator", installation.diagnosis()))
        namespaces = [*item.funcargs.get("new_namespace", _none).made]
        if "on_cluster" in item.funcargs and "name" in item.funcargs:
            namespaces.append(f"e2e-{item.funcargs['name']}")
        for namespace in namespaces:
            report.sections.append((namespace, installation.cluster.describe(namespace)))


@pytest.fixture(scope="session")
def cluster():
    with running(Cluster(start())) as cluster:
        yield cluster


class Bucket:
    """The S3 server of the whole session, a process of its own: it has much to do."""

    def __init__(self, address: str, port: int):
        self.address, self.port = address, port
        self.endpoint = f"http://{address}:{port}"
        self._process = None

    def start(self):
        program = Path(sys.executable).parent / "moto_server"
        command = [program, "-H", self.address, "-p", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(self._answers, "the S3 server", 60)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection((self.address, self.port), timeout=1).close()
            return True
        return False

    def stop(self):
        self._process.kill()
        self._process.wait(10)

    @contextlib.contextmanager
    def away(self):
        """Takes connections, and answers nothing."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def get_host_and_port(self):
        return self.address, self.port


class Gatekeeper(Receiver):
    """Gives every file of one line when its gate is open: whoever reads one is held at a known place until then."""

    gate = Gate()

    def answer(self, method: str, path: str, headers) -> tuple[int, bytes]:
        if method == "GET":
            self.gate.pass_()
        return 200, b"number\n1\n"


@pytest.fixture(scope="session")
def _gatekeeper(cluster):
    with running(Gatekeeper(address=cluster.host)) as server:
        yield server
        server.gate.open.set()


@pytest.fixture
def gate(_gatekeeper):
    _gatekeeper.gate = Gate()
    yield _gatekeeper.gate
    _gatekeeper.gate.open.set()


@pytest.fixture(scope="session")
def bucket_server(cluster):
    with running(Bucket(cluster.host, 9000)) as server:
        yield server


@pytest.fixture(scope="session")
def buckets(bucket_server):
    """With the examples' data, and a place for the store."""
    example_servers.fill(bucket_server.endpoint)
    return Buckets(bucket_server)


@pytest.fixture(scope="session")
def postgres(cluster, tmp_path_factory):
    with running(Postgres(tmp_path_factory.mktemp("postgres"), cluster.host)) as server:
        yield server


@pytest.fixture(scope="session")
def installation(cluster, buckets, postgres):
    with running(Mailbox(cluster.host, 2525)) as mailbox:
        BUILT.import_images(cluster)
        installation = Installation(cluster, buckets, mailbox, {"postgres": postgres.port})
        installation.notes = installation.install()
        yield installation


class NewNamespaces:
    """Makes namespaces for one test, and deletes them after it."""

    def __init__(self, installation: Installation):
        self._installation = installation
        self.made: list[str] = []

    def __call__(self, name: str) -> str:
        self.made.append(self._installation.new_namespace(name))
        return self.made[-1]


class _none:
    made = ()


@pytest.fixture
def new_namespace(installation):
    factory = NewNamespaces(installation)
    yield factory
    for namespace in factory.made:
        installation.delete_namespace(namespace, wait=False)


@pytest.fixture
def held(new_namespace, installation, _gatekeeper):
    """A namespace in which the workflow `held` stops at the gate, and `quick` does not."""
    namespace = new_namespace(f"held-{next(HELD_NUMBERS)}")
    address = f"{installation.cluster.host}:{_gatekeeper.port}"
    text = (Path(__file__).parent / "held.yaml").read_text().replace("GATE_ADDRESS", address)
    installation.cluster.apply(namespace, *yaml.safe_load_all(text))
    return namespace


@pytest.fixture(scope="session")
def on_cluster(installation, postgres, tmp_path_factory):
    """Every scenario on the cluster, started at once: `on_cluster[name].result()`."""

    def run(name: str):
        scenario = OnCluster(SCENARIOS[name], installation, postgres, tmp_path_factory.mktemp(name), name)
        return scenario, scenario.run()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {name: pool.submit(run, name) for name in SCENARIOS}


@pytest.fixture(scope="session")
def locally(tmp_path_factory, _local_postgres):
    """Every scenario by `pintail run`, on this machine."""

    def run(name: str):
        folder = tmp_path_factory.mktemp("local") / name
        with running(Mailbox()) as mailbox, running(ThreadedMotoServer("127.0.0.1", 0, verbose=False)) as server:
            workspace = Workspace(folder, mailbox, Buckets(server), lambda: _local_postgres.port)
            return run_locally(SCENARIOS[name], workspace, _local_postgres)

    with ThreadPoolExecutor(1) as pool:
        yield {name: pool.submit(run, name) for name in SCENARIOS}


@pytest.fixture(scope="session")
def _local_postgres(tmp_path_factory):
    with running(Postgres(tmp_path_factory.mktemp("local-postgres"))) as server:
        yield server



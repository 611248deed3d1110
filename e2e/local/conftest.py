"""Servers once a worker, a workspace once a test."""

import logging

import pytest
from moto.server import ThreadedMotoServer

from servers import Buckets, Mailbox, Postgres, Receiver, running
from spoiled import GOOD, RAW
from workspace import EXAMPLES, ROOT, Workspace, outputs

logging.getLogger("werkzeug").setLevel(logging.ERROR)
logging.getLogger("mail.log").setLevel(logging.ERROR)


def pytest_sessionstart(session):
    for missing in [path for path in (ROOT / "bin/pintail", ROOT / "bin/pintail-runner") if not path.exists()]:
        raise pytest.UsageError(f"{missing} is missing: `make build` makes it")
    for example in EXAMPLES.glob("*/generate.py"):
        if not (example.parent / "data" / ".key").exists():
            raise pytest.UsageError(f"{example.parent / 'data'} is missing: `examples/generate` makes it")


def pytest_terminal_summary(terminalreporter):
    """What tests noted for people: seeds and counts."""
    for report in terminalreporter.stats.get("passed", []) + terminalreporter.stats.get("failed", []):
        for name, value in report.user_properties if report.when == "call" else []:
            terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {name}: {value}")


@pytest.fixture(scope="session")
def _mailbox():
    with running(Mailbox()) as mailbox:
        yield mailbox


@pytest.fixture
def mailbox(_mailbox):
    _mailbox.mails.clear()
    _mailbox.credentials.clear()
    return _mailbox


@pytest.fixture(scope="session")
def _receiver():
    with running(Receiver()) as receiver:
        yield receiver


@pytest.fixture
def receiver(_receiver):
    _receiver.reset()
    return _receiver


@pytest.fixture(scope="session")
def buckets():
    with running(ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)) as server:
        yield Buckets(server)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    with running(Postgres(tmp_path_factory.mktemp("postgres"))) as server:
        yield server


@pytest.fixture
def make_workspace(tmp_path, mailbox, buckets, request):
    """Makes workspaces, for tests that compare several."""

    def make(name: str) -> Workspace:
        return Workspace(tmp_path / name, mailbox, buckets, lambda: request.getfixturevalue("postgres").port)

    return make


@pytest.fixture
def workspace(make_workspace, tmp_path):
    return make_workspace(tmp_path.name)


@pytest.fixture
def folder(workspace):
    """A workspace in which a run has committed a result. When the test is over, the result must be there still."""
    workspace.write("good/workflow.yaml", GOOD)
    execution = workspace.good("run", "good", "-o", "json").execution()
    output = outputs(execution)["numbers"]
    content = workspace.bytes_at(output["uri"])
    workspace.path("data").mkdir()
    workspace.write("local/raw.yaml", RAW)
    yield workspace
    assert workspace.bytes_at(output["uri"]) == content
    if workspace.path(".pintail", "_format").read_text().count("999") == 0:
        name = execution["metadata"]["name"]
        assert name in workspace.good("list", "-o", "name").out
        assert "998001" in workspace.good("preview", name, "--sql", "SELECT max(square) FROM result").out

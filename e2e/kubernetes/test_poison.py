"""Objects that no validation would let in: each is set aside with a condition, and everything else goes on."""

import copy

import pytest
from cluster import GROUP, Refused, condition, eventually

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.fixture
def loosened(installation):
    """The kinds as an API server without their schemas would take them, for the test."""
    cluster = installation.cluster
    names = ["workflows.pintail.dev", "executions.pintail.dev", "connections.pintail.dev"]
    before = {name: cluster.get(f"{CRDS}/{name}") for name in names}
    for name, found in before.items():
        definition = copy.deepcopy(found)
        for version in definition["spec"]["versions"]:
            version["schema"] = {
                "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
            }
            version.pop("selectableFields", None)
        cluster.ask("PUT", f"{CRDS}/{name}", json=definition)

    def restore():
        for name in names:
            definition = cluster.get(f"{CRDS}/{name}")
            definition["spec"] = before[name]["spec"]
            cluster.ask("PUT", f"{CRDS}/{name}", json=definition)

    yield restore
    restore()


def document(kind: str, name: str, **fields) -> dict:
    return {"apiVersion": "pintail.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, **fields}


POISON = [
    document("Workflow", "tasks-are-no-list", spec={"tasks": "none"}),
    document("Workflow", "no-spec"),
    document("Execution", "reference-is-a-number", spec={"workflowRef": 7}),
    document("Connection", "bucket-is-a-text", spec={"s3": "everywhere"}),
]


def is_taken(cluster, place: str, thing: dict) -> bool:
    """The API server takes a looser schema some time after it was told of it."""
    try:
        return cluster.ensure(place, thing)
    except Refused:
        return False


def test_poison_is_set_aside_and_everything_else_goes_on(held, installation, loosened, gate):
    cluster = installation.cluster
    gate.open.set()
    plurals = {"Workflow": "workflows", "Execution": "executions", "Connection": "connections"}
    for thing in POISON:
        place = f"{GROUP}/namespaces/{held}/{plurals[thing['kind']]}"
        eventually(lambda place=place, thing=thing: is_taken(cluster, place, thing), f"{thing} to be taken", 20)
    for thing in POISON:
        plural, name = plurals[thing["kind"]], thing["metadata"]["name"]

        def aside(plural=plural, name=name):
            found = condition(cluster.object(held, plural, name), "Ready")
            return found if found.get("status") == "False" else None

        found = eventually(aside, f"a condition of {plural}/{name}", 30)
        assert found["reason"] == "Undecodable" and found["message"], found
    loosened()
    execution = installation.execute(held, "held", "healthy")
    assert condition(execution, "Succeeded")["status"] == "True", cluster.describe(held)


def test_a_record_that_nobody_can_read_stops_its_run_only(held, installation, gate):
    cluster = installation.cluster
    installation.start(held, "held", "broken")
    assert gate.reached.wait(60), cluster.describe(held)
    place = f"{GROUP}/namespaces/{held}/executions/broken"
    cluster.patch(f"{place}/status", {"status": {"state": "bm8gcmVjb3Jk"}})

    def aside():
        found = condition(cluster.get(place), "Ready")
        return found if found.get("reason") == "RecordUnreadable" else None

    found = eventually(aside, "the condition RecordUnreadable", 30)
    assert found["status"] == "False" and found["message"], found
    gate.open.set()
    execution = installation.execute(held, "held", "healthy")
    assert condition(execution, "Succeeded")["status"] == "True", cluster.describe(held)

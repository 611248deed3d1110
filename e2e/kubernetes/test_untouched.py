"""What users and administrators do while things run: apply again, edit, delete, take the bucket away."""

import io

import pyarrow.parquet
import pytest
from cluster import ROOT, condition, eventually
from scenarios import all_objects

def change(installation, namespace: str, name: str) -> None:
    workflow = installation.cluster.object(namespace, "workflows", name)
    (task,) = [task for task in workflow["spec"]["tasks"] if task["name"] == "after"]
    task["duckdb"]["query"] = "SELECT number + 100 AS number FROM before"
    del workflow["metadata"]["resourceVersion"], workflow["metadata"]["managedFields"]
    installation.cluster.apply(namespace, {key: workflow[key] for key in ("apiVersion", "kind", "metadata", "spec")})


def numbers(installation, execution: dict) -> list[int]:
    (output,) = [output for output in execution["status"]["outputs"] if output["type"] == "table"]
    bucket, _, key = output["uri"].removeprefix("s3://").partition("/")
    content = installation.buckets.get(bucket, key)
    return pyarrow.parquet.read_table(io.BytesIO(content)).column("number").to_pylist()


def test_applying_the_same_manifests_again_changes_nothing(new_namespace, installation):
    namespace = new_namespace("twice")
    cluster = installation.cluster
    command = ["apply", "-n", namespace, "-f", str(ROOT / "examples/hello"), "-f", str(ROOT / "examples/hello/cluster")]
    cluster.kubectl(*command)
    assert condition(installation.finished(namespace, "hello"), "Succeeded")["status"] == "True"
    before = settled(installation, namespace)
    pods = [pod["metadata"]["uid"] for pod in cluster.pods(namespace)]
    said = cluster.kubectl(*command)
    assert all(line.endswith(" unchanged") for line in said.splitlines()), said
    assert settled(installation, namespace) == before
    assert {pod["metadata"]["uid"] for pod in cluster.pods(namespace)} <= set(pods)


def settled(installation, namespace: str) -> dict[str, tuple]:
    """The versions of all objects once they stay as they are."""
    seen = {"last": None, "times": 0}

    def same_for_long() -> bool:
        found = all_objects(installation, namespace)
        seen["times"] = seen["times"] + 1 if found == seen["last"] else 0
        seen["last"] = found
        return seen["times"] >= 15

    eventually(same_for_long, lambda: f"{namespace} to stay as it is: {seen}", 60, every_s=0.2)
    return seen["last"]


@pytest.mark.parametrize("what", ["edited", "deleted"])
def test_a_workflow_that_changes_in_mid_run_does_not_disturb_it(what, held, installation, gate):
    cluster = installation.cluster
    installation.start(held, "held", "run")
    assert gate.reached.wait(60), cluster.describe(held)
    revision = cluster.object(held, "executions", "run")["status"]["resolved"]["revision"]
    if what == "edited":
        change(installation, held, "held")
        eventually(lambda: revision_of(cluster, held) != revision, "the new revision", 20)
    else:
        cluster.kubectl("delete", "workflow", "held", "-n", held)
    gate.open.set()
    execution = installation.finished(held, "run")
    assert condition(execution, "Succeeded")["status"] == "True", cluster.describe(held)
    assert execution["status"]["resolved"]["revision"] == revision
    assert numbers(installation, execution) == [2]
    if what == "edited":
        assert numbers(installation, installation.execute(held, "held", "next")) == [101]


def revision_of(cluster, namespace: str) -> str:
    workflow = cluster.object(namespace, "workflows", "held")
    status = workflow.get("status", {})
    return status.get("revision") if status.get("observedGeneration") == workflow["metadata"]["generation"] else None


def test_a_namespace_deleted_in_mid_run_ends_without_its_bucket(held, installation, gate, bucket_server, on_cluster):
    for future in on_cluster.values():
        future.exception()  # nothing else needs the bucket meanwhile
    cluster = installation.cluster
    execution = installation.execute(held, "quick", "published")
    assert condition(execution, "Succeeded")["status"] == "True", cluster.describe(held)
    (artifact,) = cluster.objects(held, "artifacts")
    assert artifact["metadata"].get("finalizers"), artifact
    installation.start(held, "held", "run")
    assert gate.reached.wait(60), cluster.describe(held)
    with bucket_server.away():
        installation.delete_namespace(held)

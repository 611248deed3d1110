"""An operator that is replaced in mid-run by a build whose format numbers are one higher: the same as one whose stored
records have a number that is one lower. What was stored is written anew with that number while no operator runs."""

import base64
import json

import pyarrow
from cluster import GROUP, condition, eventually
from installation import SYSTEM


def packed(text: str, change) -> str:
    """base64 of zstd of JSON, with a change in the JSON."""
    content = pyarrow.CompressedInputStream(pyarrow.BufferReader(base64.b64decode(text)), "zstd").read()
    changed = json.dumps(change(json.loads(content))).encode()
    return base64.b64encode(pyarrow.compress(changed, codec="zstd", asbytes=True)).decode()


def one_lower(record: dict) -> dict:
    assert record["format"] >= 1
    return record | {"format": record["format"] - 1}


def test_a_run_goes_on_with_a_build_of_newer_formats(held, installation, gate):
    cluster = installation.cluster
    installation.start(held, "held", "run")
    assert gate.reached.wait(60), cluster.describe(held)
    cluster.kubectl("-n", SYSTEM, "scale", "deployment", "pintail-operator", "--replicas=0")
    try:
        eventually(lambda: not installation.operators(), "the end of the old operator", 60)
        gate.open.set()

        def over():
            pods = cluster.pods(held)
            return pods if [pod["status"].get("phase") for pod in pods] == ["Succeeded"] else None

        (pod,) = eventually(over, "the end of the first task", 60)
        place = f"{GROUP}/namespaces/{held}/executions/run"
        execution = cluster.get(place)
        state = packed(execution["status"]["state"], one_lower)
        cluster.patch(f"{place}/status", {"status": {"state": state}})
        lower_revision(cluster, held, execution["status"]["resolved"]["revision"])
        lower_commit(installation, held, execution["metadata"]["uid"])
        # So that the commit is what tells of the result.
        cluster.delete(f"/api/v1/namespaces/{held}/pods/{pod['metadata']['name']}", gracePeriodSeconds=0)
    finally:
        cluster.kubectl("-n", SYSTEM, "scale", "deployment", "pintail-operator", "--replicas=1")
    execution = installation.finished(held, "run")
    assert condition(execution, "Succeeded")["status"] == "True", cluster.describe(held)
    # The first task was not done again.
    assert {entry["name"]: entry["attempt"] for entry in execution["status"]["taskList"]} == {"before": 1, "after": 1}


def lower_revision(cluster, namespace: str, name: str) -> None:
    place = f"/apis/apps/v1/namespaces/{namespace}/controllerrevisions"
    found = cluster.get(f"{place}/{name}")
    found["data"] = one_lower(found["data"])
    for field in ("resourceVersion", "uid", "creationTimestamp", "managedFields"):
        found["metadata"].pop(field, None)
    cluster.delete(f"{place}/{name}")
    cluster.create(place, found)


def lower_commit(installation, namespace: str, uid: str) -> None:
    key = f"results/{namespace}/runs/{uid}/before/_commit"
    record = one_lower(json.loads(installation.buckets.get("pintail-store", key)))
    installation.buckets.client.put_object(Bucket="pintail-store", Key=key, Body=json.dumps(record))

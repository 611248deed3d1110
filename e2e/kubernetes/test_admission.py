"""What is wrong is said as it is applied, or else in the status: nothing wrong runs, whatever of it is away."""

import base64
import itertools

import pytest
import yaml
from cluster import GROUP, condition, eventually, unpacked
from installation import SYSTEM, WEBHOOK

NUMBERS = itertools.count()
COLUMNS = [{"name": "id", "type": "BIGINT"}, {"name": "code", "type": "VARCHAR"}]


def workflow(name: str, query: str, **task) -> dict:
    inputs = [{"name": "orders", "type": "table", "columns": COLUMNS}]
    first = {"name": "a", "uses": ["orders"], "duckdb": {"query": query}} | task
    spec = {"inputs": inputs, "tasks": [first]}
    return {"apiVersion": "pintail.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": name}, "spec": spec}


RIGHT = workflow("right", "SELECT id, count(*) AS n FROM orders GROUP BY ALL")
WRONG = workflow("wrong", "SELECT\n  quantty\nFROM orders")
ELSEWHERE = workflow("elsewhere", "SELECT id FROM orders, lake.trips", reads=["lake"])
REFUSED = "spec.tasks[0].duckdb.query: line 2, column 3: there is no column `quantty`"


def apply(cluster, namespace: str, *documents: dict, dry: bool = False):
    """The finished process: `kubectl apply` with what it says on both streams."""
    options = ["--dry-run=server"] if dry else []
    text = yaml.safe_dump_all(documents)
    return cluster.run("kubectl", "apply", *options, "-n", namespace, "-f", "-", input=text, check=False)


def review(cluster, namespace: str, *documents: dict):
    """The same without a change, until the review was done in time: a busy machine's may end with a warning only."""

    def in_time():
        done = apply(cluster, namespace, *documents, dry=True)
        return done if "checked:" not in done.stderr.replace("not checked: first mend these", "") else None

    return eventually(in_time, "a review in time", 30)


def is_refused(cluster, namespace: str) -> bool:
    done = apply(cluster, namespace, WRONG, dry=True)
    return done.returncode != 0 and "denied the request" in done.stderr


@pytest.fixture
def reviewed(installation, new_namespace):
    """A namespace whose objects are reviewed: the API server trusts the webhook some time after the operator has begun."""
    # One that is on its way out takes nothing.
    namespace = new_namespace(f"admission-{next(NUMBERS)}")
    cluster = installation.cluster

    eventually(lambda: is_refused(cluster, namespace), "the webhook to answer", 60, 1)
    return namespace


def ready(cluster, namespace: str, name: str) -> dict:
    return condition(cluster.object(namespace, "workflows", name), "Ready")


def test_what_is_wrong_in_itself_is_refused_and_what_is_wrong_next_to_others_is_warned_of(installation, reviewed):
    cluster = installation.cluster
    refused = review(cluster, reviewed, WRONG)
    assert refused.returncode != 0 and REFUSED in refused.stderr and "[unknown-column]" in refused.stderr
    place = f"{GROUP}/namespaces/{reviewed}/workflows/wrong"

    def nothing_is_kept() -> bool:
        taken = apply(cluster, reviewed, WRONG).returncode == 0
        kept = cluster.get(place) is not None
        # A review that was late lets it in, with a warning.
        cluster.delete(place)
        return not taken and not kept

    eventually(nothing_is_kept, "what is refused not to be there", 30)

    warned = review(cluster, reviewed, ELSEWHERE)
    assert warned.returncode == 0, warned.stderr
    assert "Warning: spec.tasks[0].reads[0]: there is no connection `lake`" in warned.stderr
    apply(cluster, reviewed, ELSEWHERE)
    eventually(lambda: ready(cluster, reviewed, "elsewhere").get("reason") == "Invalid", "the status to say so")

    right = review(cluster, reviewed, RIGHT)
    assert (right.returncode, right.stderr) == (0, "")
    apply(cluster, reviewed, RIGHT)
    eventually(lambda: ready(cluster, reviewed, "right").get("status") == "True", "what is right to be ready")


def test_without_the_webhook_the_status_says_both(installation, reviewed):
    cluster = installation.cluster
    with installation.without_webhook():
        done = eventually(lambda: (done := apply(cluster, reviewed, WRONG, ELSEWHERE)).returncode == 0 and done, "nobody to refuse")
        assert "created" in done.stdout or "configured" in done.stdout
        for name in ("wrong", "elsewhere"):
            eventually(lambda: ready(cluster, reviewed, name).get("status") == "False", f"{name} to be found wrong")
        assert REFUSED in ready(cluster, reviewed, "wrong")["message"]
        shown = {line.split()[0]: line.split()[1:3] for line in cluster.kubectl("get", "ptwf", "-n", reviewed).splitlines()[1:]}
        assert shown == {"wrong": ["False", "Invalid"], "elsewhere": ["False", "Invalid"]}
    # What was taken may be labelled and deleted, though it is wrong.
    cluster.kubectl("label", "ptwf", "wrong", "-n", reviewed, "a=b")


def test_without_the_checker_nothing_unchecked_runs(installation, reviewed):
    cluster = installation.cluster
    scale = ["scale", "deployment/pintail-checker", "-n", SYSTEM]
    cluster.kubectl(*scale, "--replicas=0")
    try:
        eventually(lambda: not checkers(cluster), "the checker to be gone")
        one = workflow("later", "SELECT 1 AS one", uses=[])
        del one["spec"]["inputs"]
        run = {"apiVersion": "pintail.dev/v1alpha1", "kind": "Execution", "metadata": {"name": "later"}}
        applied = apply(cluster, reviewed, one, run | {"spec": {"workflowRef": {"name": "later"}}})
        assert applied.returncode == 0 and "Warning: the SQL is not checked" in applied.stderr, applied.stderr
        eventually(lambda: ready(cluster, reviewed, "later").get("reason") == "NotChecked", "it to be said that it is not checked")
        assert ready(cluster, reviewed, "later")["status"] == "Unknown"
        waits = lambda: condition(cluster.object(reviewed, "executions", "later"), "Succeeded").get("reason")  # noqa: E731
        eventually(lambda: waits() == "WorkflowNotReady", "the run to wait")
        assert not cluster.pods(reviewed)
    finally:
        cluster.kubectl(*scale, "--replicas=1")
    eventually(lambda: ready(cluster, reviewed, "later").get("status") == "True", "the checker to be asked again", 90)
    eventually(lambda: waits() == "Succeeded", "the run to succeed", 90)
    assert lineage_kept(cluster, reviewed, "later") == [("a", ["one"])]


def lineage_kept(cluster, namespace: str, execution: str) -> list[tuple[str, list[str]]]:
    """The tasks and columns whose sources stand in the revision that a run is pinned to."""
    name = cluster.object(namespace, "executions", execution)["status"]["resolved"]["revision"]
    revision = cluster.get(f"/apis/apps/v1/namespaces/{namespace}/controllerrevisions/{name}")
    lineage = unpacked(base64.b64decode(revision["data"]["zstd"]))["lineage"]
    return [(result["task"], [column["name"] for column in result["columns"]]) for result in lineage]


def checkers(cluster) -> list[dict]:
    return cluster.pods(SYSTEM, labelSelector="app.kubernetes.io/component=checker")


def test_a_producer_that_breaks_a_reader_is_warned_of_and_the_reader_says_so(installation, reviewed):
    cluster = installation.cluster

    def producer(query: str) -> dict:
        one = workflow("producer", query, uses=[])
        del one["spec"]["inputs"]
        one["spec"]["outputs"] = [{"name": "sales", "value": "$(tasks.a)", "publish": {"artifact": "sales"}}]
        return one

    reader = workflow("reader", "SELECT id FROM orders")
    reader["spec"]["inputs"][0] |= {"default": {"artifact": "sales"}}
    done = apply(cluster, reviewed, producer("SELECT 1::BIGINT AS id, 'a' AS code"), reader)
    assert done.returncode == 0, done.stderr
    eventually(lambda: ready(cluster, reviewed, "reader").get("reason") == "Valid", "the reader to be ready")

    broken = producer("SELECT 'x' AS id, 'a' AS code")
    done = review(cluster, reviewed, broken)
    assert done.returncode == 0 and "input `orders` of workflow `reader` reads `id`" in done.stderr, done.stderr
    apply(cluster, reviewed, broken)
    eventually(lambda: ready(cluster, reviewed, "reader").get("reason") == "ContractBroken", "the reader to be told")
    found = cluster.object(reviewed, "workflows", "reader")
    assert (condition(found, "Ready")["status"], condition(found, "ContractBroken")["status"]) == ("True", "True")

    apply(cluster, reviewed, producer("SELECT 1::BIGINT AS id, 'a' AS code, 2 AS more"))
    eventually(lambda: ready(cluster, reviewed, "reader").get("reason") == "Valid", "the reader to be well again")
    assert not condition(cluster.object(reviewed, "workflows", "reader"), "ContractBroken")


def test_the_certificate_is_the_operators_own_and_is_made_anew_when_it_is_gone(installation, reviewed):
    cluster = installation.cluster
    secret = f"/api/v1/namespaces/{SYSTEM}/secrets/pintail-admission"
    before = cluster.get(secret)["data"]
    assert before.keys() == {"ca.crt", "tls.crt", "tls.key", "renew-after"}
    cluster.patch(secret, {"data": None})
    eventually(lambda: (cluster.get(secret).get("data") or before) != before, "another certificate", 90)
    after = cluster.get(secret)["data"]["ca.crt"]
    (webhook,) = cluster.get(WEBHOOK)["webhooks"]
    eventually(lambda: cluster.get(WEBHOOK)["webhooks"][0]["clientConfig"]["caBundle"] == after, "it to be trusted")
    assert webhook["failurePolicy"] == "Ignore"
    eventually(lambda: is_refused(cluster, reviewed), "the webhook to answer again", 90, 1)

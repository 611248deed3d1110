"""What is wrong with a launch plan is refused by the API server, or stands in its condition with the path of its field."""

import pytest
import yaml
from cluster import GROUP, Refused, condition, eventually
from launches import document, hook, plan

# Far away, so that those that are not as wrong start nothing meanwhile.
YEARLY = {"cron": "0 0 1 1 *"}


def timed(**schedule) -> dict:
    return {"name": "t", "schedule": YEARLY | schedule}


def arriving(connection: str = "raw", **fields) -> dict:
    return {"name": "t", "object": {"connection": connection, "path": "*.csv"}, **fields}


def given(inputs: dict, **trigger) -> dict:
    return arriving(inputs={"recent": "$(trigger.object)", **inputs}, **trigger)


# Plan, and what its condition says.
INVALID = {
    "a date that never comes": (plan("never", "takes", timed(cron="0 0 30 2 *"), inputs={"recent": {"artifact": "a"}}),
        ["spec.triggers[0].schedule.cron"]),
    "an hour that is not": (plan("hour", "takes", timed(cron="0 25 * * *"), inputs={"recent": {"artifact": "a"}}),
        ["spec.triggers[0].schedule.cron"]),
    "an unknown zone": (plan("zone", "takes", timed(timeZone="Europe/Pariss"), inputs={"recent": {"artifact": "a"}}),
        ["spec.triggers[0].schedule.timeZone", "Europe/Paris"]),
    "an unknown workflow": (plan("nobody", "nobody", timed()), ["spec.workflowRef.name", "`nobody`"]),
    "an unknown input": (plan("lest", "takes", given({"lest": 1})), ["spec.triggers[0].inputs.lest", "least"]),
    "an input of another type": (plan("text", "takes", given({"least": "many"})), ["spec.triggers[0].inputs.least"]),
    "an input that is missing": (plan("lacks", "takes", arriving()), ["spec.triggers[0].inputs", "recent"]),
    "an input of the plan of another type": (
        plan("kind", "takes", timed(), inputs={"recent": {"artifact": "a"}, "least": "x"}), ["spec.inputs.least"]),
    "a connection that is missing": (
        plan("wrong", "takes", arriving("rwa", inputs={"recent": "$(trigger.object)"})),
        ["spec.triggers[0].object.connection", "raw"]),
    "a connection of another kind": (
        plan("other", "takes", arriving("hook", inputs={"recent": "$(trigger.object)"})),
        ["spec.triggers[0].object.connection"]),
    "a receiver that is missing": (
        plan("untold", "plain", timed(), notifications=[{"phases": ["Failed"], "connection": "mail"}]),
        ["spec.notifications[0].connection"]),
    "a circle of one": (plan("again", "makes", {"name": "t", "artifacts": [{"name": "made"}]}), ["spec.triggers", "circle"]),
    "a secret that is missing": (
        plan("keyless", "plain", {"name": "t", "event": {"type": "order", "connection": "hook"}}),
        ["spec.triggers[0].event", "absent"]),
}  # fmt: skip

# Of these the plan alone shows it.
WRONG_IN_ITSELF = ["a date that never comes", "an hour that is not", "an unknown zone"]

# Plan, and what the API server says.
REFUSED = {
    "two triggers of one name": (plan("twice", "plain", timed(), timed()), ["spec.triggers[1]", "Duplicate"]),
    "more triggers than there may be": (
        plan("many", "plain", *[timed() | {"name": f"t{number}"} for number in range(21)]), ["spec.triggers", "20"]),
    "a trigger of two kinds": (plan("both", "plain", timed() | arriving()), ["spec.triggers[0]", "exactly one"]),
    "a word that is no way to catch up": (plan("way", "plain", timed(catchUp="Some")), ["catchUp"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def invalid(installation):
    """A namespace with all of them, and what they are about."""
    namespace = installation.new_namespace("refused")
    one = {"name": "one", "duckdb": {"query": "SELECT 1 AS number"}}
    columns = [{"name": "a", "type": "BIGINT"}]
    installation.cluster.apply(
        namespace,
        document("Workflow", "plain", {"tasks": [one]}),
        document("Workflow", "takes", {
            "inputs": [
                {"name": "recent", "type": "table", "columns": columns},
                {"name": "least", "type": "BIGINT", "default": 1},
            ],
            "tasks": [one | {"uses": ["recent", "least"], "duckdb": {"query": "SELECT a + $least AS a FROM recent"}}],
        }),
        document("Workflow", "makes", {
            "tasks": [one],
            "outputs": [{"name": "one", "value": "$(tasks.one)", "publish": {"artifact": "made"}}],
        }),
        document("Connection", "raw", {"s3": {"bucket": "none", "prefix": "none"}}),
        hook("hook", "absent"),
    )

    def applied() -> bool:
        wrong = yaml.safe_dump_all(wrong for wrong, _ in INVALID.values())
        done = installation.cluster.run("kubectl", "apply", "-n", namespace, "-f", "-", input=wrong, check=False)
        assert done.returncode == 0 or "denied the request" in done.stderr, done.stderr
        return done.returncode == 0

    # Of what is refused as it is applied, too, the condition is to be seen.
    with installation.without_webhook():
        eventually(applied, "nobody to refuse them")
    yield namespace
    installation.delete_namespace(namespace, wait=False)


@pytest.mark.parametrize("what", INVALID)
def test_a_plan_that_cannot_work_says_where_it_is_wrong(what, invalid, installation):
    cluster, (wrong, parts) = installation.cluster, INVALID[what]
    name = wrong["metadata"]["name"]

    def told():
        found = condition(cluster.object(invalid, "launchplans", name), "Ready")
        return found if found.get("status") == "False" and all(part in found["message"] for part in parts) else None

    found = eventually(told, lambda: f"{parts}: {cluster.object(invalid, 'launchplans', name)}", 90)
    assert found["reason"] == ("AgentUnavailable" if name == "keyless" else "Invalid"), found


@pytest.mark.parametrize("what", WRONG_IN_ITSELF)
def test_a_plan_that_is_wrong_in_itself_is_refused_as_it_is_applied(what, invalid, installation):
    cluster, (wrong, parts) = installation.cluster, INVALID[what]
    text = yaml.safe_dump(wrong | {"metadata": {"name": "another"}})
    command = ["kubectl", "apply", "--dry-run=server", "-n", invalid, "-f", "-"]

    def refusal() -> str | None:
        done = cluster.run(*command, input=text, check=False)
        return done.stderr if done.returncode != 0 and "denied the request" in done.stderr else None

    said = eventually(refusal, "the webhook to refuse it")
    assert all(part in said for part in parts), said


@pytest.mark.parametrize("what", REFUSED)
def test_a_plan_that_can_never_be_right_is_refused(what, invalid, installation):
    wrong, parts = REFUSED[what]
    with pytest.raises(Refused) as refusal:
        installation.cluster.create(f"{GROUP}/namespaces/{invalid}/launchplans", wrong)
    assert refusal.value.code == 422 and all(part in str(refusal.value) for part in parts), refusal.value

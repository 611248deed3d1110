"""What happens on the cluster starts runs: times, published versions, objects, signed events. The examples with their plans."""

import datetime
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from cluster import GROUP, condition, eventually
from installation import OPERATOR
from launches import (
    KEY,
    Launched,
    agents,
    created,
    deliver,
    document,
    ended,
    event_body,
    event_url,
    hook,
    occurrences,
    plan,
    runs,
    secret,
    signed,
    succeeded,
)
from workspace import EXAMPLES

ARRIVING = "incoming/orders-2026-11-20.csv"
EVENT = "O-1017"
SCHEDULED = ["monthly-report", "incremental-load"]


def test_a_time_starts_a_run_whose_version_starts_another(held, installation, examples):
    """The examples wait for the same minute."""
    cluster = installation.cluster
    taker = document("Workflow", "taker", {
        "inputs": [{"name": "given", "type": "table"}],
        "tasks": [{"name": "two", "uses": ["given"], "duckdb": {"query": "SELECT number + 1 AS number FROM given"}}],
    })
    ones = {"name": "ones", "artifacts": [{"name": "ones"}], "inputs": {"given": "$(trigger.artifacts.ones)"}}
    minutes = {"name": "minutes", "schedule": {"cron": "* * * * *"}}
    cluster.apply(held, taker, plan("follow", "taker", ones), plan("minutely", "quick", minutes))
    succeeded(cluster, held, "minutely", 1)
    followed = succeeded(cluster, held, "follow", 1)
    for run in followed:
        if inputs := run.get("status", {}).get("resolved", {}).get("inputs"):
            assert inputs[0]["artifact"] == run["spec"]["trigger"]["occurrence"], run
    ticks = occurrences(runs(cluster, held, "minutely"))
    assert len(set(ticks)) == len(ticks)
    found = condition(cluster.object(held, "launchplans", "minutely"), "Ready")
    assert found["status"] == "True", found


def test_an_event_that_is_delivered_many_times_starts_one_run(held, installation):
    cluster = installation.cluster
    event = {"name": "orders", "event": {"type": "order", "connection": "hook"}}
    cluster.apply(held, secret("hook", key=KEY), hook("hook", "hook"), plan("ordered", "quick", event))
    eventually(lambda: agents(cluster, held), lambda: f"an agent: {cluster.describe(held)}", 120)
    url = event_url(cluster, held, "ordered", "orders")
    with ThreadPoolExecutor(10) as pool:
        names = set(pool.map(lambda _: deliver(url, "o-1"), range(100)))
    found = succeeded(cluster, held, "ordered", 1)
    assert [run["metadata"]["name"] for run in found] == list(names)
    body = event_body("o-1")
    forged = requests.post(url, body, headers={**signed("o-1", body), "webhook-id": "o-2"}, timeout=60)
    assert forged.status_code == 401, forged.text


# --- the examples


def send(launched: Launched, event: str) -> str | None:
    """By the example's own program. Gives what it said once the event is taken."""
    url = event_url(launched.cluster, launched.namespace, "event-driven", "order_created")
    command = [sys.executable, EXAMPLES / "event-driven/send.py", EXAMPLES / f"event-driven/data/events/{event}.json", url]
    finished = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=90, check=False)
    return finished.stdout if finished.returncode == 0 else None


def publish_spoiled(launched: Launched) -> str:
    """A version without what the summary needs. Gives its name."""
    spoiled = document("Workflow", "spoiled", {
        "tasks": [{"name": "one", "duckdb": {"query": "SELECT 1 AS nothing"}}],
        "outputs": [{"name": "one", "value": "$(tasks.one)", "publish": {"artifact": "recent_ecommerce_data"}}],
    })
    launched.cluster.apply(launched.namespace, spoiled)
    return published(launched, "spoiled")


def published(launched: Launched, workflow: str) -> str:
    """Runs a workflow that publishes. Gives the name of the version."""
    names = [execution["metadata"]["name"] for execution in launched.cluster.objects(launched.namespace, "executions")]
    name = f"{workflow}-{sum(name.startswith(workflow) for name in names)}"
    execution = launched.installation.execute(launched.namespace, workflow, name)
    (version,) = [output["artifact"] for output in execution["status"]["outputs"] if "artifact" in output]
    return version


def happen(launched: Launched):
    """Lets what starts a run of the example happen. A time comes by itself; after its run no other is to come."""
    if launched.example == "anomaly-check":
        launched.put(ARRIVING, "incoming/orders-new.csv")
    if launched.example == "retail-summary":
        return published(launched, "recent-orders"), publish_spoiled(launched)
    if launched.example == "event-driven":
        return eventually(lambda: send(launched, EVENT), "an answer to the event", 120, every_s=0.5)
    if launched.example in SCHEDULED:
        launched.succeeded(1)
        launched.suspend()
    return None


@pytest.fixture(scope="module")
def examples(installation, postgres, tmp_path_factory):
    """The examples with plans, all at the same time: each, and what its occurrence gave, once that has happened."""
    folder = tmp_path_factory.mktemp("launched")
    names = [*SCHEDULED, "anomaly-check", "retail-summary", "event-driven"]
    made = {}

    def begin(name: str):
        made[name] = Launched(name, installation, postgres, folder)
        made[name].prepare()
        return made[name], happen(made[name])

    with ThreadPoolExecutor(len(names)) as pool:
        yield {name: pool.submit(begin, name) for name in names}
    for launched in made.values():
        installation.delete_namespace(launched.namespace, wait=False)


def test_an_object_that_is_put_into_the_bucket_is_checked_and_mailed_once(examples):
    launched, _ = examples["anomaly-check"].result()
    (run,) = launched.succeeded(1)
    assert run["spec"]["trigger"]["occurrence"].startswith("incoming/orders-new.csv@"), run["spec"]
    assert run["spec"]["inputs"]["orders"] == {"connection": "raw", "path": "incoming/orders-new.csv"}
    (mail,) = launched.mails("14 wrong totals in orders-new.csv")
    assert list(mail.attachments) == ["anomalies.csv"]
    # The bucket is listed again before this one is found: what was seen starts nothing.
    launched.put(ARRIVING, "incoming/orders-later.csv")
    launched.succeeded(2)
    paths = sorted(occurrence.partition("@")[0] for occurrence in occurrences(launched.runs()))
    assert paths == ["incoming/orders-later.csv", "incoming/orders-new.csv"]


def test_each_published_version_is_summarized_once_and_both_ends_are_told_of(examples):
    launched, versions = examples["retail-summary"].result()
    launched.succeeded(1)
    ended(launched.cluster, launched.namespace, "retail-summary", 1, "False")
    by_version = {run["spec"]["trigger"]["occurrence"]: run for run in launched.runs()}
    assert len(launched.runs()) == 2 and set(by_version) == set(versions)
    for version, verb in zip(versions, ("succeeded", "failed"), strict=True):
        run = by_version[version]
        if verb == "succeeded":
            (pinned,) = [entry for entry in run["status"]["resolved"]["inputs"] if entry["name"] == "recent"]
            assert pinned["artifact"] == version
        else:
            # It lacks what the summary reads: it is named, and bound to nothing.
            assert f"{version} of dataset `recent_ecommerce_data`, which breaks its contract" in told_of(run), told_of(run)
        (mail,) = launched.mails(f"retail-summary {verb}")
        assert run["metadata"]["name"] in mail.subject, mail.subject
        told = eventually(lambda run=run: notifications(launched, run, "Sent"), "the word that it was told", 30)
        assert told[0]["to"] == mail.recipients


def told_of(run: dict) -> str:
    return condition(run, "Succeeded")["message"]


def notifications(launched: Launched, run: dict, state: str) -> list[dict]:
    found = launched.cluster.object(launched.namespace, "executions", run["metadata"]["name"])
    return [told for told in found["status"].get("notifications", []) if told["state"] == state]


def moment(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)


@pytest.mark.parametrize("example", SCHEDULED)
def test_a_schedule_starts_one_run_for_each_tick(example, examples):
    launched, _ = examples[example].result()
    found = launched.ended()
    assert all(condition(run, "Succeeded")["status"] == "True" for run in found), found
    ticks = sorted(moment(occurrence) for occurrence in occurrences(found))
    pauses = {later - earlier for earlier, later in zip(ticks, ticks[1:], strict=False)}
    assert pauses <= {datetime.timedelta(minutes=1)} and all(tick.second == 0 for tick in ticks), ticks
    if example == "monthly-report":
        mails = launched.mails("Best month of 2025")
        assert len(mails) == len(found)
        assert all(list(mail.attachments) == ["monthly-volume-2025.csv"] for mail in mails)
    else:
        for run in found:
            assert moment(run["spec"]["inputs"]["until"]) == moment(run["spec"]["trigger"]["occurrence"]), run["spec"]
        assert launched.read_databases()["lake.taxi_trips"]


def test_a_signed_event_is_recorded_once_and_gets_the_same_answer_again(examples):
    launched, answer = examples["event-driven"].result()
    (run,) = launched.succeeded(1)
    assert answer.startswith("202") and run["metadata"]["name"] in answer
    assert run["spec"]["trigger"]["occurrence"] == f"/shop#created-{EVENT}"
    assert eventually(lambda: send(launched, EVENT), "the same answer", 30) == answer
    (row,) = launched.read_databases()["shop.orders"]
    assert row[0] == EVENT
    assert len(launched.runs()) == 1


def test_what_was_pruned_does_not_start_again_with_the_operator(examples, installation):
    """Objects, versions and events that had their runs, which are gone; one more of each tells that all were looked at."""
    cluster = installation.cluster
    (checked, _), (summarized, _) = examples["anomaly-check"].result(), examples["retail-summary"].result()
    ordered, answer = examples["event-driven"].result()
    launched = [checked, summarized, ordered]
    for one in launched:
        place = f"{GROUP}/namespaces/{one.namespace}/launchplans/{one.example}"
        cluster.patch(place, {"spec": {"history": {"keepSucceeded": 0, "keepFailed": 0}}})
        eventually(lambda one=one: not one.runs(), lambda one=one: f"no runs: {cluster.describe(one.namespace)}", 60)
    if not cluster.audit_log:
        pytest.skip("counts in the audit log of the cluster of scripts/cluster")
    begin, before = cluster.audit_end(), installation.leader()
    cluster.kubectl("-n", "pintail-system", "delete", "pods", "-l", OPERATOR, "--force")
    eventually(lambda: installation.leader() not in ("", before), "an operator anew", 90)
    checked.put(ARRIVING, "incoming/orders-last.csv")
    published(summarized, "recent-orders")
    assert eventually(lambda: send(ordered, EVENT), "the same answer", 60, every_s=0.5) == answer
    eventually(lambda: send(ordered, "O-1018"), "an answer to another event", 60)

    def started(of: Launched) -> list[str]:
        return [name for name in created(cluster, begin, of.namespace) if name.startswith(of.example)]

    for one in launched:
        eventually(lambda one=one: started(one), lambda one=one: f"another run: {cluster.describe(one.namespace)}", 90)
        eventually(lambda one=one: not one.runs(), lambda one=one: f"its end: {cluster.describe(one.namespace)}", 120)
        assert len(started(one)) == 1, (one.example, started(one))

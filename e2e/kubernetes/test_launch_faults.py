"""Launch plans while operators and agents go and come: each occurrence has its one run, and no more run at once than may."""

import contextlib
import datetime
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from cluster import GROUP, condition, eventually
from installation import SYSTEM
from launches import (
    AGENTS,
    KEY,
    agents,
    created,
    deliver,
    event_url,
    hook,
    occurrences,
    plan,
    runs,
    secret,
    succeeded,
    trigger_status,
)

MINUTE = datetime.timedelta(minutes=1)
AWAY = 30 * MINUTE
DELIVERIES = 100
LIMITED = 8


def scale(installation, replicas: int) -> None:
    installation.cluster.kubectl("-n", SYSTEM, "scale", "deployment", "pintail-operator", f"--replicas={replicas}")
    eventually(lambda: len(installation.operators()) == replicas, f"{replicas} operators", 90)


@pytest.fixture
def two_operators(installation):
    scale(installation, 2)
    yield
    scale(installation, 1)


def delete_leader(installation) -> str:
    """Without a word, so that the other waits until the lease has run out. Gives who led."""
    before = installation.leader()
    place = f"/api/v1/namespaces/{SYSTEM}/pods/{before.partition('_')[0]}"
    installation.cluster.delete(place, gracePeriodSeconds=0)
    return before


def another_leads(installation, before: str) -> None:
    eventually(lambda: installation.leader() not in ("", before), "another leader", 90)


def moment(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)


# --- ticks


def backdate(cluster, namespace: str, name: str, handled: datetime.datetime) -> None:
    """As if the operator had been away since then: the status says what it has handled."""
    status = trigger_status(cluster, namespace, name)
    then = handled.strftime("%Y-%m-%dT%H:%M:%SZ")
    status |= {"since": then, "handledThrough": then}
    cluster.patch(f"{GROUP}/namespaces/{namespace}/launchplans/{name}/status", {"status": {"triggers": [status]}})


def test_ticks_that_passed_without_an_operator_are_caught_up_with_as_promised(held, installation, record_property):
    cluster = installation.cluster
    minutely = {"name": "minutely", "schedule": {"cron": "* * * * *"}}
    for way in ("None", "Latest", "All"):
        trigger = {**minutely, "schedule": {**minutely["schedule"], "catchUp": way}}
        # Those that are started wait: what counts is which there are.
        limited = {"limit": 1, "whenFull": "Queue", "queueLimit": 1000}
        cluster.apply(held, plan(f"way-{way.lower()}", "quick", trigger, concurrency=limited, history={"keepSucceeded": 100}))
    names = ["way-none", "way-latest", "way-all"]
    for name in names:
        eventually(lambda name=name: trigger_status(cluster, held, name).get("next"), f"the ticks of {name}")
    scale(installation, 0)
    try:
        now = datetime.datetime.now(datetime.UTC)
        away_since = (now - AWAY).replace(second=0, microsecond=0)
        known = {name: set(occurrences(runs(cluster, held, name))) for name in names}
        for name in names:
            backdate(cluster, held, name, away_since)
    finally:
        scale(installation, 1)

    def handled(name: str):
        status = trigger_status(cluster, held, name)
        return status if moment(status.get("handledThrough", "1970-01-01T00:00:00Z")) > now - MINUTE else None

    for name in names:
        status = eventually(lambda name=name: handled(name), lambda name=name: f"the ticks of {name}: {cluster.describe(held)}", 60)
        through = moment(status["handledThrough"])
        passed = {away_since + count * MINUTE for count in range(1, (through - away_since) // MINUTE + 1)}
        found = [moment(tick) for tick in occurrences(runs(cluster, held, name))]
        assert len(found) == len(set(found)), found
        # Those that had their runs before are known by them, and count as handled again.
        had = {moment(tick) for tick in known[name]}
        fired, dropped = {tick for tick in found if tick <= through} - had, status.get("dropped", 0)
        record_property(name, f"{len(passed)} ticks: {len(fired)} fired, {dropped} dropped")
        assert fired <= passed and len(fired | had & passed) + dropped >= len(passed), (fired, dropped)
        if name == "way-all":
            assert fired | had & passed == passed and dropped == 0, (passed - fired, dropped)
        else:
            # The newest, and one that came while the operator was back.
            assert fired <= {through, through - MINUTE} and dropped >= len(passed) - 2, (fired, dropped)


# --- events


def delete_agents(cluster, namespace: str) -> None:
    for pod in cluster.pods(namespace, labelSelector=AGENTS):
        cluster.delete(f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}", gracePeriodSeconds=0)


def test_an_event_starts_one_run_while_agents_and_the_leader_are_replaced(held, installation, two_operators, record_property):
    cluster = installation.cluster
    event = {"name": "orders", "event": {"type": "order", "connection": "hook"}}
    cluster.apply(held, secret("hook", key=KEY), hook("hook", "hook"), plan("ordered", "quick", event))
    first = eventually(lambda: agents(cluster, held), lambda: f"an agent: {cluster.describe(held)}", 120)[0]
    url, begin = event_url(cluster, held, "ordered", "orders"), cluster.audit_end() if cluster.audit_log else None
    deliveries, answered = [], []
    with ThreadPoolExecutor(DELIVERIES) as pool:

        def send_some():
            deliveries.extend(pool.submit(deliver, url, "o-1", 200) for _ in range(DELIVERIES // 4))
            answered.append(sum(delivery.done() for delivery in deliveries))

        send_some()
        before = delete_leader(installation)
        send_some()
        delete_agents(cluster, held)
        send_some()
        # Another order is another agent, which takes the place of the one before.
        cluster.apply(held, plan("also", "quick", {**event, "name": "more"}))
        send_some()
        another_leads(installation, before)
        delete_agents(cluster, held)
        names = {delivery.result() for delivery in deliveries}
    record_property("deliveries", f"{len(deliveries)}, of which were answered after each fault {answered}")
    (run,) = succeeded(cluster, held, "ordered", 1)
    assert names == {run["metadata"]["name"]}
    assert deliver(url, "o-1") == run["metadata"]["name"]
    last = eventually(lambda: agents(cluster, held), "an agent", 120)
    assert first["metadata"]["uid"] not in {pod["metadata"]["uid"] for pod in last}
    assert len(cluster.objects(held, "executions")) == 1
    if begin is not None:
        # The request of an operator that was killed has no good end in the log.
        assert len(created(cluster, begin, held)) <= 1


# --- one at a time


def spans(found: list[dict]) -> list[tuple[datetime.datetime, datetime.datetime]]:
    return sorted((moment(run["status"]["startTime"]), moment(run["status"]["completionTime"])) for run in found)


def test_no_two_runs_are_under_way_while_the_lease_goes_from_hand_to_hand(held, installation, two_operators, record_property):
    cluster = installation.cluster
    if not cluster.is_ours:
        pytest.skip("stops processes of the cluster of scripts/cluster")
    single = {"limit": 1, "whenFull": "Queue"}
    cluster.apply(held, plan("single", "quick", concurrency=single, history={"keepSucceeded": 100}))
    for _ in range(LIMITED):
        cluster.run("bin/pintail", "run", "plan/single", "--detach", "-n", held)

    def over() -> int:
        return sum(condition(run, "Succeeded").get("status") == "True" for run in runs(cluster, held, "single"))

    eventually(lambda: over() >= 1, lambda: f"the first run: {cluster.describe(held)}", 60)
    before = installation.leader()
    sleeper = installation.operator_processes()[before.partition("_")[0]]
    os.kill(sleeper, signal.SIGSTOP)
    try:
        eventually(lambda: installation.leader() not in ("", before), "another leader", 60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(sleeper, signal.SIGCONT)
    then = over()
    eventually(lambda: over() > then, lambda: f"a run by the other: {cluster.describe(held)}", 90)
    another_leads(installation, delete_leader(installation))
    found = succeeded(cluster, held, "single", LIMITED)
    assert len(found) == LIMITED
    under_way = spans(found)
    for earlier, later in zip(under_way, under_way[1:], strict=False):
        assert earlier[1] <= later[0], under_way
    record_property("ended", f"{then} when the other took over, {LIMITED} in the end")

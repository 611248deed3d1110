"""Faults while the examples run: the operator killed, pods deleted, the API server restarted, a leader that sleeps beyond
its lease. The end is that of undisturbed runs, and the audit log has no attempt twice.

`PINTAIL_FAULT_SEED=<seed>` repeats the faults of an earlier session; what the machine does between them is its own.
"""

import collections
import contextlib
import copy
import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from cluster import of_cluster, eventually
from installation import SYSTEM, Installation
from scenarios import SCENARIOS, Observed, OnCluster, assert_equal

SEED = int(os.environ.get("PINTAIL_FAULT_SEED") or random.SystemRandom().randrange(1 << 32))
KILLS, PODS_DELETED = 20, 8
# Those that load, publish, mail and export, several tasks each.
DISTURBED = ["retail-summary", "incremental-load", "join-and-export", "mask-personal-data", "monthly-report", "hard-text"]
OPERATOR = f"system:serviceaccount:{SYSTEM}:pintail-operator"


def without_attempts(seen: Observed) -> Observed:
    """An attempt that is lost gets a number of its own, and a mail may come twice."""
    seen = copy.copy(seen)
    seen.executions = copy.deepcopy(seen.executions)
    for execution in seen.executions:
        for entry in execution["taskList"]:
            entry.pop("message", None)
        execution.pop("failures")
    seen.mails = sorted(set(seen.mails))
    return seen


@dataclass
class Rounds:
    """Examples in fresh namespaces, one after another, until it is told to stop."""

    installation: Installation
    postgres: object
    folder: object
    # Namespaces of an earlier test may not be gone yet.
    name: str
    at_once: int
    over: threading.Event = field(default_factory=threading.Event)
    ended: list[tuple[str, OnCluster, Observed]] = field(default_factory=list)
    namespaces: list[str] = field(default_factory=list)

    def lane(self, number: int) -> None:
        at = number
        while not self.over.is_set():
            name = DISTURBED[at % len(DISTURBED)]
            where = f"{self.name}-{at}-{name}"
            self.namespaces.append(f"e2e-{where}")
            scenario = retried(
                lambda: OnCluster(SCENARIOS[name], self.installation, self.postgres, self.folder / where, where)
            )
            self.ended.append((name, scenario, scenario.run(deadline_s=240)))
            at += self.at_once

    @contextlib.contextmanager
    def running(self):
        """Runs all lanes; at the end each finishes what it began."""
        with ThreadPoolExecutor(self.at_once) as pool:
            lanes = [pool.submit(self.lane, number) for number in range(self.at_once)]
            try:
                yield lanes
            finally:
                self.over.set()
        for lane in lanes:
            lane.result()


def retried(action):
    """Users try again when the API server is away."""
    return eventually(lambda: _tried(action), "an answer of the API server", 60)


def _tried(action):
    try:
        return action()
    except AssertionError:
        return None


class Faults:
    def __init__(self, installation: Installation, rounds: Rounds, draw: random.Random):
        self.installation, self.rounds, self.draw = installation, rounds, draw
        self.counts = collections.Counter()

    def kill_operator(self):
        def is_killed() -> bool:
            # It may end by itself: the API server was away for longer than its lease.
            with contextlib.suppress(ProcessLookupError, IndexError):
                os.kill(self.draw.choice(sorted(self.installation.operator_processes().values())), signal.SIGKILL)
                return True
            return False

        eventually(is_killed, "an operator to kill", 60)
        self.counts["operators killed"] += 1

    def delete_pod(self):
        def running():
            found = []
            for namespace in self.rounds.namespaces[-self.rounds.at_once :]:
                for pod in self.installation.cluster.pods(namespace, labelSelector="app.kubernetes.io/name=pintail-task"):
                    if pod["status"].get("phase") in ("Pending", "Running"):
                        found.append(pod)
            return found

        pod = self.draw.choice(eventually(running, "a pod that runs", 60, every_s=0.05))
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        grace = self.draw.choice([0, 1])
        place = f"/api/v1/namespaces/{namespace}/pods/{name}"
        options = {"gracePeriodSeconds": grace, "preconditions": {"uid": pod["metadata"]["uid"]}}
        eventually(lambda: self.installation.cluster.delete(place, **options) or True, "an answer to a deletion")
        self.counts["pods deleted"] += 1

    def restart_api_server(self):
        self.installation.cluster.run(*of_cluster("restart", "kube-apiserver"))
        self.counts["API servers restarted"] += 1


def assert_no_attempt_twice(events: list[dict]) -> collections.Counter:
    """A pod's name is its attempt, so that the API server refuses a second one while the first is there. Nor is one made
    again after it, unless someone else than the operator took it away."""
    counts = collections.Counter()
    # Who began to delete the newest pod of a name; None while nobody has.
    taken_by: dict[tuple[str, str], str | None] = {}
    for event in events:
        thing, who = event["objectRef"], event["user"]["username"]
        if thing["resource"] != "pods" or thing.get("subresource"):
            continue
        pod = (thing["namespace"], thing.get("name", ""))
        if event["verb"] == "create" and who == OPERATOR:
            if pod in taken_by:
                assert taken_by[pod] not in (None, OPERATOR), f"{pod} was made again, and nobody had taken it away"
                counts["made again after a loss"] += 1
            taken_by[pod] = None
            counts["pods made"] += 1
        elif event["verb"] == "delete" and pod in taken_by:
            taken_by[pod] = taken_by[pod] or who
    return counts


@pytest.fixture
def rounds(installation, postgres, tmp_path, request):
    if "sleeps" in request.node.name:
        rounds = Rounds(installation, postgres, tmp_path, "sleeper", 3)
    else:
        # All of them at once: however fast the machine, each meets some of the faults.
        rounds = Rounds(installation, postgres, tmp_path, "killed", len(DISTURBED))
    yield rounds
    for namespace in rounds.namespaces:
        installation.delete_namespace(namespace, wait=False)


@pytest.fixture
def undisturbed(on_cluster):
    return {name: without_attempts(on_cluster[name].result()[1]) for name in DISTURBED}


def assert_as_undisturbed(rounds: Rounds, undisturbed: dict[str, Observed], record_property) -> None:
    for name, _, seen in rounds.ended:
        assert_equal(without_attempts(seen), undisturbed[name])
    record_property("examples with the undisturbed end", len(rounds.ended))


def assert_one_commit_a_task(rounds: Rounds) -> None:
    for _, scenario, seen in rounds.ended:
        for execution in seen.raw:
            uid, namespace = execution["metadata"]["uid"], scenario.namespace
            prefix = f"results/{namespace}/runs/{uid}/"
            keys = rounds.installation.buckets.objects("pintail-store", prefix)
            commits = sorted(key.split("/")[-2] for key in keys if key.endswith("/_commit"))
            done = sorted(entry["name"] for entry in execution["status"]["taskList"] if entry["state"] == "Succeeded")
            assert commits == done, f"{namespace}/{execution['metadata']['name']}"


@pytest.mark.timeout(500)
def test_examples_end_as_undisturbed_whatever_is_killed(installation, rounds, undisturbed, record_property):
    if not installation.cluster.is_ours:
        pytest.skip("ends processes of the cluster of scripts/cluster")
    record_property("seed", SEED)
    draw = random.Random(SEED)
    faults = Faults(installation, rounds, draw)
    schedule = [faults.kill_operator] * KILLS + [faults.delete_pod] * PODS_DELETED + [faults.restart_api_server]
    draw.shuffle(schedule)
    begin = installation.cluster.audit_end()
    with rounds.running() as lanes:
        for fault in schedule:
            moment = time.monotonic() + draw.uniform(0.1, 4)
            eventually(lambda moment=moment: time.monotonic() >= moment, "the moment", 10, every_s=0.02)
            fault()
            assert not any(lane.done() for lane in lanes), [lane.exception() for lane in lanes if lane.done()]
    assert faults.counts["operators killed"] == KILLS
    assert_as_undisturbed(rounds, undisturbed, record_property)
    assert_one_commit_a_task(rounds)
    record_property("faults", dict(faults.counts))
    record_property("audit", dict(assert_no_attempt_twice(installation.cluster.audit(begin))))


def made_pods(cluster, since: int) -> list[dict]:
    return [
        event
        for event in cluster.audit(since)
        if event["verb"] == "create" and event["objectRef"]["resource"] == "pods" and event["user"]["username"] == OPERATOR
    ]


@pytest.mark.timeout(400)
def test_a_leader_that_sleeps_beyond_its_lease_does_no_harm(installation, rounds, undisturbed, record_property):
    """Two operators; the one that leads stands still in the middle of its work, the other takes over, the first wakes up."""
    cluster = installation.cluster
    if not cluster.is_ours:
        pytest.skip("stops processes of the cluster of scripts/cluster")
    begin = cluster.audit_end()
    cluster.kubectl("-n", SYSTEM, "scale", "deployment", "pintail-operator", "--replicas=2")
    try:
        eventually(lambda: len(installation.operator_processes()) == 2, "two operators", 60)
        with rounds.running():
            eventually(
                lambda: rounds.namespaces and any(cluster.pods(name) for name in rounds.namespaces), "pods of tasks", 60
            )
            before = installation.leader()
            sleeper = installation.operator_processes()[before.partition("_")[0]]
            os.kill(sleeper, signal.SIGSTOP)
            try:
                eventually(lambda: installation.leader() not in ("", before), "another leader", 60)
                taken = cluster.audit_end()
                # It works before the first one wakes; that one is not alive for the kubelet after half a minute.
                eventually(lambda: made_pods(cluster, taken), "a pod that the other one made", 20)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(sleeper, signal.SIGCONT)
            awake = len(rounds.ended)
            eventually(lambda: len(rounds.ended) > awake, "an example that finishes after that", 120)
        record_property("leaders", f"{before} slept, then {installation.leader()}")
    finally:
        cluster.kubectl("-n", SYSTEM, "scale", "deployment", "pintail-operator", "--replicas=1")
    assert_as_undisturbed(rounds, undisturbed, record_property)
    assert_one_commit_a_task(rounds)
    record_property("audit", dict(assert_no_attempt_twice(cluster.audit(begin))))

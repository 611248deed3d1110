"""What a run waits for stands in its status, and it goes on when that is there."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from cluster import condition, eventually
from installation import example_servers


def workflow(task: dict) -> dict:
    one = {"name": "one", "duckdb": {"query": "SELECT 1 AS n"}}
    return {
        "apiVersion": "pintail.dev/v1alpha1",
        "kind": "Workflow",
        "metadata": {"name": "waits"},
        "spec": {"tasks": [one | task]},
    }


def connection(name: str, spec: dict) -> dict:
    return {"apiVersion": "pintail.dev/v1alpha1", "kind": "Connection", "metadata": {"name": name}, "spec": spec}


def secret_of(name: str) -> dict:
    return {"secretKeyRef": {"name": name, "key": "value"}}


@dataclass
class Lack:
    """Something that is not there: the reason it shows as, what brings it about, and what mends it."""

    reason: str
    task: dict
    take_away: Callable[[object, str], None]
    mend: Callable[[object, str], None]


def without_store_secret(cluster, namespace):
    cluster.kubectl("delete", "secret", "pintail-store", "-n", namespace)


def with_store_secret(cluster, namespace):
    cluster.apply(namespace, example_servers.store_secret())


def quota(cluster, namespace):
    limit = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    cluster.apply(namespace, limit)
    eventually(
        lambda: (cluster.get(f"/api/v1/namespaces/{namespace}/resourcequotas/none") or {}).get("status", {}).get("used"),
        "the quota to be counted",
    )


def no_quota(cluster, namespace):
    cluster.kubectl("delete", "resourcequota", "none", "-n", namespace)


def unlabel_node(cluster, namespace):
    cluster.kubectl("label", "node", "--all", "pintail.dev/waits-")


def label_node(cluster, namespace):
    cluster.kubectl("label", "node", "--all", "--overwrite", f"pintail.dev/waits={namespace}")


def keys_without_secret(cluster, namespace):
    cluster.apply(namespace, connection("keys", {"secrets": {"pepper": secret_of("absent")}}))


def the_secret(cluster, namespace):
    cluster.apply(namespace, example_servers.secret("absent", value="pepper"))


def without_account(cluster, namespace):
    cluster.kubectl("delete", "serviceaccount", "pintail-runner", "-n", namespace)


def with_account(cluster, namespace):
    cluster.kubectl("create", "serviceaccount", "pintail-runner", "-n", namespace)


LACKS = [
    Lack("StoreCredentialMissing", {}, without_store_secret, with_store_secret),
    Lack("QuotaExceeded", {}, quota, no_quota),
    Lack(
        "Unschedulable",
        {"pod": {"nodeSelector": {"pintail.dev/waits": "e2e-waits-unschedulable"}}},
        unlabel_node,
        label_node,
    ),
    Lack(
        "SecretMissing",
        {"reads": ["keys"], "duckdb": {"query": "SELECT length($keys_pepper) AS n"}},
        keys_without_secret,
        the_secret,
    ),
    Lack("ServiceAccountMissing", {}, without_account, with_account),
]


@pytest.fixture(scope="module")
def waiting(installation):
    """All of them at once."""
    namespaces = {}
    for lack in LACKS:
        namespace = installation.new_namespace(f"waits-{lack.reason.lower()}")
        namespaces[lack.reason] = namespace
        eventually(
            lambda namespace=namespace: installation.cluster.get(
                f"/api/v1/namespaces/{namespace}/serviceaccounts/pintail-runner"
            ),
            "the account of task pods",
        )
        lack.take_away(installation.cluster, namespace)
        installation.cluster.apply(namespace, workflow(lack.task))
        installation.start(namespace, "waits", "run")
    yield namespaces
    for namespace in namespaces.values():
        installation.delete_namespace(namespace, wait=False)


@pytest.mark.parametrize("lack", LACKS, ids=lambda lack: lack.reason)
def test_a_run_says_what_it_waits_for_and_goes_on(lack, waiting, installation, record_property):
    cluster, namespace = installation.cluster, waiting[lack.reason]

    def waits():
        found = condition(cluster.object(namespace, "executions", "run"), "Succeeded")
        return found if found.get("reason") == lack.reason else None

    found = eventually(waits, lambda: f"the reason {lack.reason}: {cluster.describe(namespace)}", 60)
    assert found["status"] == "Unknown" and found["message"], found
    record_property("message", found["message"])
    lack.mend(cluster, namespace)
    execution = installation.finished(namespace, "run", 90)
    assert condition(execution, "Succeeded")["status"] == "True", cluster.describe(namespace)

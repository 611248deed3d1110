"""What happens on the cluster starts runs: times, published versions, objects, signed events."""

import base64
import hashlib
import hmac
import json
import time
from concurrent.futures import ThreadPoolExecutor

import requests
from cluster import condition, eventually

KEY = "signing-key-of-the-test"


def document(kind: str, name: str, spec: dict) -> dict:
    return {"apiVersion": "pintail.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def plan(name: str, workflow: str, trigger: dict, **fields) -> dict:
    return document("LaunchPlan", name, {"workflowRef": {"name": workflow}, "triggers": [trigger], **fields})


def runs(cluster, namespace: str, of: str) -> list[dict]:
    found = cluster.objects(namespace, "executions")
    return [run for run in found if run["spec"].get("trigger", {}).get("plan") == of]


def succeeded(cluster, namespace: str, of: str, count: int) -> list[dict]:
    def enough():
        found = runs(cluster, namespace, of)
        return found if sum(condition(run, "Succeeded").get("status") == "True" for run in found) >= count else None

    return eventually(enough, lambda: f"{count} runs of {of}: {cluster.describe(namespace)}", 150)


def test_a_time_starts_a_run_whose_version_starts_another(held, installation):
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
    occurrences = [run["spec"]["trigger"]["occurrence"] for run in runs(cluster, held, "minutely")]
    assert len(set(occurrences)) == len(occurrences)
    found = condition(cluster.object(held, "launchplans", "minutely"), "Ready")
    assert found["status"] == "True", found


def signed(identity: str, body: bytes) -> dict[str, str]:
    timestamp = str(int(time.time()))
    digest = hmac.new(KEY.encode(), f"{identity}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "content-type": "application/cloudevents+json",
        "webhook-id": identity,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def test_an_event_that_is_delivered_many_times_starts_one_run(held, installation):
    cluster = installation.cluster
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hook"}, "stringData": {"key": KEY}}
    hook = document("Connection", "hook", {"webhook": {"signingKeyFrom": {"secretKeyRef": {"name": "hook", "key": "key"}}}})
    event = {"name": "orders", "event": {"type": "order", "connection": "hook"}}
    cluster.apply(held, secret, hook, plan("ordered", "quick", event))

    def agent():
        pods = cluster.items(f"/api/v1/namespaces/{held}/pods", labelSelector="app.kubernetes.io/name=pintail-agent")
        return [pod for pod in pods if condition(pod, "Ready").get("status") == "True"]

    pod = eventually(agent, lambda: f"an agent: {cluster.describe(held)}", 120)[0]["metadata"]["name"]
    path = f"/api/v1/namespaces/{held}/pods/{pod}:8080/proxy/events/ordered/orders"
    body = json.dumps({"specversion": "1.0", "id": "o-1", "source": "/shop", "type": "order", "data": {}}).encode()

    def deliver(_) -> str:
        answer = requests.post(cluster.address + path, body, headers=signed("o-1", body), timeout=60)
        assert answer.status_code == 202, (answer.status_code, answer.text)
        return answer.json()["execution"]

    with ThreadPoolExecutor(10) as pool:
        names = set(pool.map(deliver, range(100)))
    found = succeeded(cluster, held, "ordered", 1)
    assert [run["metadata"]["name"] for run in found] == list(names)
    forged = requests.post(cluster.address + path, body, headers={**signed("o-1", body), "webhook-id": "o-2"}, timeout=60)
    assert forged.status_code == 401, forged.text

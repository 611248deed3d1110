"""Launch plans on a cluster: their manifests, their runs, and events as senders sign them."""

import base64
import hashlib
import hmac
import json
import time

import requests
import yaml
from cluster import condition, eventually, is_over
from scenarios import SCENARIOS, OnCluster
from servers import Mail

KEY = "signing-key-of-the-test"
# Who gets mail of plans: mails of all tests come to one mailbox.
RECIPIENT = "launched@example.com"
AGENTS = "app.kubernetes.io/name=pintail-agent"


def document(kind: str, name: str, spec: dict) -> dict:
    return {"apiVersion": "pintail.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def plan(name: str, workflow: str, *triggers: dict, **fields) -> dict:
    return document("LaunchPlan", name, {"workflowRef": {"name": workflow}, "triggers": list(triggers), **fields})


def secret(name: str, **values: str) -> dict:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}


def hook(name: str, secret_name: str) -> dict:
    """A Connection with the key of those who send events."""
    return document("Connection", name, {"webhook": {"signingKeyFrom": {"secretKeyRef": {"name": secret_name, "key": "key"}}}})


# --- runs


def runs(cluster, namespace: str, of: str) -> list[dict]:
    found = cluster.objects(namespace, "executions")
    return [run for run in found if run["spec"].get("trigger", {}).get("plan") == of]


def ended(cluster, namespace: str, of: str, count: int, status: str, deadline_s: float = 150) -> list[dict]:
    """The runs of a plan, once so many have ended so."""

    def enough():
        found = [run for run in runs(cluster, namespace, of) if condition(run, "Succeeded").get("status") == status]
        return found if len(found) >= count else None

    return eventually(enough, lambda: f"{count} runs of {of}: {cluster.describe(namespace)}", deadline_s, every_s=0.3)


def succeeded(cluster, namespace: str, of: str, count: int) -> list[dict]:
    return ended(cluster, namespace, of, count, "True")


def occurrences(found: list[dict]) -> list[str]:
    return [run["spec"]["trigger"]["occurrence"] for run in found]


def trigger_status(cluster, namespace: str, name: str) -> dict:
    """What is recorded of the plan's first trigger."""
    status = (cluster.object(namespace, "launchplans", name) or {}).get("status") or {}
    return (status.get("triggers") or [{}])[0]


def created(cluster, since: int, namespace: str) -> list[str]:
    """Names of the Executions that were created from a place in the audit log on, in order."""
    return [
        event["objectRef"]["name"]
        for event in cluster.audit(since)
        if event["verb"] == "create"
        and event["objectRef"]["resource"] == "executions"
        and event["objectRef"]["namespace"] == namespace
    ]


# --- events


def agents(cluster, namespace: str) -> list[dict]:
    """The agents of the namespace that are ready and stay."""
    pods = cluster.pods(namespace, labelSelector=AGENTS)
    staying = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    return [pod for pod in staying if condition(pod, "Ready").get("status") == "True"]


def event_url(cluster, namespace: str, plan_name: str, trigger: str) -> str:
    """Of the Service of agents, through the API server."""
    service = f"/api/v1/namespaces/{namespace}/services/pintail-agent:80/proxy"
    return f"{cluster.address}{service}/events/{plan_name}/{trigger}"


def signed(identity: str, body: bytes) -> dict[str, str]:
    timestamp = str(int(time.time()))
    digest = hmac.new(KEY.encode(), f"{identity}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "content-type": "application/cloudevents+json",
        "webhook-id": identity,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def event_body(identity: str) -> bytes:
    return json.dumps({"specversion": "1.0", "id": identity, "source": "/shop", "type": "order", "data": {}}).encode()


def deliver(url: str, identity: str, deadline_s: float = 120) -> str:
    """Sends an event until it is taken, as a sender does. Gives the Execution's name."""
    body = event_body(identity)

    def taken():
        answer = requests.post(url, body, headers=signed(identity, body), timeout=60)
        assert answer.status_code == 202 or answer.status_code >= 500, (answer.status_code, answer.text)
        return answer.json()["execution"] if answer.status_code == 202 else None

    return eventually(taken, f"an answer to event {identity}", deadline_s, every_s=0.5)


# --- examples


class Launched(OnCluster):
    """An example in a namespace of its own, with its plan, which starts its runs."""

    def __init__(self, example: str, installation, postgres, folder):
        super().__init__(SCENARIOS[example], installation, postgres, folder / example, f"launched-{example}")
        self.example = example

    def prepare(self) -> None:
        super().prepare()
        self.installation.buckets.upload(self.data, "pintail-examples", self.prefix())
        # A bucket tells times in whole seconds, and what arrived in the plan's own second is new to it.
        uploaded_s = int(time.time())
        eventually(lambda: int(time.time()) > uploaded_s, "the next second", 5)
        self.cluster.apply(self.namespace, self.plan())

    def plan(self) -> dict:
        """The example's own but for who gets mail, and a schedule whose next tick is near."""
        found = yaml.safe_load((self.scenario.folder / "launch-plan.yaml").read_text())
        spec = found["spec"]
        if self.example in ("anomaly-check", "monthly-report"):
            spec["inputs"] = {"recipient": RECIPIENT}
        for told in spec.get("notifications", []):
            told["to"] = [RECIPIENT]
        for trigger in spec["triggers"]:
            if "schedule" in trigger:
                trigger["schedule"]["cron"] = "* * * * *"
        return found

    def put(self, file: str, key: str) -> None:
        """One of the example's files, as an object that arrives."""
        self.installation.buckets.client.upload_file(str(self.data / file), "pintail-examples", f"{self.prefix()}/{key}")

    def runs(self) -> list[dict]:
        return runs(self.cluster, self.namespace, self.example)

    def succeeded(self, count: int) -> list[dict]:
        return succeeded(self.cluster, self.namespace, self.example, count)

    def suspend(self) -> None:
        place = f"/apis/pintail.dev/v1alpha1/namespaces/{self.namespace}/launchplans/{self.example}"
        self.cluster.patch(place, {"spec": {"suspend": True}})

    def ended(self) -> list[dict]:
        """All runs of the plan, once they have ended."""

        def over():
            found = self.runs()
            return found if found and all(is_over(run) for run in found) else None

        return eventually(over, lambda: f"the end of all runs: {self.cluster.describe(self.namespace)}", 120)

    def mails(self, subject: str) -> list[Mail]:
        """Those whose subject has this part, once there is one."""

        def found():
            mails = [mail for mail in self.installation.mailbox.mails if RECIPIENT in mail.recipients]
            return [mail for mail in mails if subject in mail.subject]

        return eventually(found, lambda: f"the mail {subject!r}: {self.cluster.describe(self.namespace)}")

"""A mailbox and a bucket on this machine, for trying the examples without an account.

The mailbox prints every message and saves attachments to `examples/out/mail/`. The bucket is kept in memory: it holds
the examples' data when it starts, and is gone when it ends.

    examples/servers              for runs on this machine: at 127.0.0.1
    examples/servers --cluster    for runs on the cluster of `make cluster`: at an address that its pods reach; makes what
                                  they need in the namespace, as a platform team would: a Service with the servers' name,
                                  the credentials, the account of task pods
"""

import email
import email.policy
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import boto3
from aiosmtpd.controller import Controller
from moto.server import ThreadedMotoServer

EXAMPLES = Path(__file__).resolve().parent
BUCKET = "pintail-examples"
# Where an installation that is tried out keeps its results.
STORE = "pintail-store"
PORTS = {"mail": 2525, "bucket": 9000}


class Mailbox:
    """Prints messages, saves attachments."""

    async def handle_DATA(self, _server, _session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        body = message.get_body(("plain",))
        print(f"\nmail to {', '.join(envelope.rcpt_tos)}: {message['subject']}")
        print(body.get_content() if body else "")
        for part in message.iter_attachments():
            folder = EXAMPLES / "out" / "mail"
            folder.mkdir(parents=True, exist_ok=True)
            target = folder / Path(part.get_filename() or "attachment").name
            target.write_bytes(part.get_payload(decode=True))
            print(f"attachment saved: {target}", flush=True)
        return "250 OK"


def fill(endpoint: str) -> None:
    """Puts the examples' data into the bucket, each under the example's name."""
    s3 = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any"
    )
    s3.create_bucket(Bucket=BUCKET)
    s3.create_bucket(Bucket=STORE)
    for data in sorted(EXAMPLES.glob("*/data")):
        for file in sorted(path for path in data.rglob("*") if path.is_file() and not path.name.startswith(".")):
            s3.upload_file(str(file), BUCKET, f"{data.parent.name}/{file.relative_to(data).as_posix()}")


def secret(name: str, **values: str) -> dict:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}


def store_secret() -> dict:
    """The credential of the store, as variables that pods get."""
    return secret("pintail-store", AWS_ACCESS_KEY_ID="any", AWS_SECRET_ACCESS_KEY="any", AWS_REGION="us-east-1")


def objects(address: str, ports: dict[str, int]) -> list[dict]:
    """What a namespace needs beside the manifests of an example; the servers are called `examples` there."""
    named = [{"name": name, "port": port, "protocol": "TCP"} for name, port in ports.items()]
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "examples"}, "spec": {"ports": named}},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "examples", "labels": {"kubernetes.io/service-name": "examples"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [address]}],
            "ports": named,
        },
        secret("bucket", **{"access-key-id": "any", "secret-access-key": "any"}),
        store_secret(),
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "pintail-runner"},
            "automountServiceAccountToken": False,
        },
    ]


def prepare_cluster(address: str) -> None:
    """The namespaces `pintail-system` and that of the kubeconfig's context, as a platform team would prepare them."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "pintail-system"}}
    credential = store_secret()
    credential["metadata"]["namespace"] = "pintail-system"
    items = {"apiVersion": "v1", "kind": "List", "items": [namespace, credential, *objects(address, PORTS)]}
    subprocess.run(["kubectl", "apply", "-f", "-"], input=json.dumps(items), text=True, check=True)


def main() -> None:
    address = "127.0.0.1"
    if sys.argv[1:] == ["--cluster"]:
        address = os.environ.get("PINTAIL_CLUSTER_HOST") or sys.exit(
            'servers: PINTAIL_CLUSTER_HOST is not set, the address at which pods reach this machine; after `make cluster`: '
            'eval "$(scripts/cluster env)"'
        )
    elif sys.argv[1:]:
        sys.exit(__doc__)
    # Blocked in all threads, so that none but sigwait takes them.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    mailbox = Controller(Mailbox(), hostname=address, port=PORTS["mail"])
    mailbox.start()
    bucket = ThreadedMotoServer(ip_address=address, port=PORTS["bucket"], verbose=False)
    bucket.start()
    endpoint = f"http://{address}:{PORTS['bucket']}"
    fill(endpoint)
    if sys.argv[1:]:
        prepare_cluster(address)
    print(f"mailbox: {address}:{PORTS['mail']}\nbucket:  {endpoint}/{BUCKET} (takes any credentials)", flush=True)
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    mailbox.stop()
    bucket.stop()


if __name__ == "__main__":
    main()

"""Sends an event as a shop would: the file as it is, signed by Standard Webhooks.

    examples/event-driven/send.py FILE [URL]    the key is in SIGNING_KEY, or that of local/secret.yaml
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
import urllib.error
import urllib.request

URL = "http://127.0.0.1:8321/events/event-driven/order_created"


def headers(key: str, body: bytes) -> dict[str, str]:
    """Who knows the key can tell that nobody changed the body, and that it was signed just now."""
    identity, timestamp = json.loads(body)["id"], str(int(time.time()))
    signed = f"{identity}.{timestamp}.".encode() + body
    digest = hmac.new(key.encode(), signed, hashlib.sha256).digest()
    return {
        "content-type": "application/cloudevents+json",
        "webhook-id": identity,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def main() -> None:
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    with open(sys.argv[1], "rb") as file:
        body = file.read()
    key = os.environ.get("SIGNING_KEY", "only-for-trying-out")
    request = urllib.request.Request(sys.argv[2] if len(sys.argv) == 3 else URL, body, headers(key, body))
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            print(answer.status, answer.read().decode().strip())
    except urllib.error.HTTPError as refusal:
        sys.exit(f"{refusal.code} {refusal.read().decode().strip()}")


if __name__ == "__main__":
    main()

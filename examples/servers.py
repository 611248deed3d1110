"""A mailbox and a bucket on this machine, for trying the examples without an account.

The mailbox prints every message and saves attachments to `examples/out/mail/`. The bucket is kept in memory: it holds
the examples' data when it starts, and is gone when it ends.
"""

import email
import email.policy
import logging
import signal
from pathlib import Path

import boto3
from aiosmtpd.controller import Controller
from moto.server import ThreadedMotoServer

EXAMPLES = Path(__file__).resolve().parent
BUCKET = "pintail-examples"


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
    for data in sorted(EXAMPLES.glob("*/data")):
        for file in sorted(path for path in data.rglob("*") if path.is_file() and not path.name.startswith(".")):
            s3.upload_file(str(file), BUCKET, f"{data.parent.name}/{file.relative_to(data).as_posix()}")


def main() -> None:
    # Blocked in all threads, so that none but sigwait takes them.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    mailbox = Controller(Mailbox(), hostname="127.0.0.1", port=2525)
    mailbox.start()
    bucket = ThreadedMotoServer(ip_address="127.0.0.1", port=9000, verbose=False)
    bucket.start()
    fill("http://127.0.0.1:9000")
    print(f"mailbox: 127.0.0.1:2525\nbucket:  http://127.0.0.1:9000/{BUCKET} (takes any credentials)", flush=True)
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    mailbox.stop()
    bucket.stop()


if __name__ == "__main__":
    main()

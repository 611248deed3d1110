"""Examples, run by `pintail run` on this machine and by the operator on the cluster, and what each leaves behind."""

import collections
import io
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow
import pyarrow.parquet
from cluster import KINDS, condition, eventually
from compare import assert_same_rows, plain, rows
from installation import Installation, manifests
from servers import Mail, Postgres
from workspace import EXAMPLES, Workspace

CORPUS = Path(__file__).resolve().parent / "corpus"


@dataclass
class Step:
    """One run, and what happens to the example's data before it."""

    workflow: str
    inputs: dict = field(default_factory=dict)
    arrive: Callable[[Path], None] = lambda data: None
    succeeds: bool = True


@dataclass
class Scenario:
    name: str
    folder: Path
    steps: list[Step]
    # Tables of databases by the SQL name of their connection, and the file as the local connection has it.
    databases: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    # What is put onto a volume before: claim and file.
    volumes: dict[str, Path] = field(default_factory=dict)
    # Places below `out/` that tasks write files to.
    exports: list[str] = field(default_factory=list)
    place: str = "local"


def break_a_file(data: Path):
    with open(data / "monthly" / "orders-2025-03.csv", "a") as file:
        file.write("O-999999,not a time,North,Travel mug,1,21.30\n")


def later_trips(data: Path):
    for file in (data / "later").glob("*.csv"):
        shutil.copy(file, data / "trips")


TRIPS = [
    Step("incremental-load"),
    Step("incremental-load"),
    Step("incremental-load", arrive=later_trips),
]
SCENARIOS = {
    scenario.name: scenario
    for scenario in [
        Scenario("hello", EXAMPLES / "hello", [Step("hello")]),
        Scenario("monthly-report", EXAMPLES / "monthly-report", [Step("monthly-report")]),
        Scenario(
            "broken-report",
            EXAMPLES / "monthly-report",
            [Step("monthly-report", arrive=break_a_file, succeeds=False)],
        ),
        Scenario(
            "mask-personal-data",
            EXAMPLES / "mask-personal-data",
            [Step("mask-personal-data"), Step("mask-personal-data")],
            databases={"warehouse": ("out/warehouse.duckdb", ["orders"])},
        ),
        Scenario(
            "anomaly-check",
            EXAMPLES / "anomaly-check",
            [
                Step("anomaly-check"),
                Step(
                    "anomaly-check", {"orders": {"connection": "raw", "path": "incoming/orders-2026-11-19.csv"}}
                ),
            ],
        ),
        Scenario(
            "retail-summary",
            EXAMPLES / "retail-summary",
            [Step("recent-orders"), Step("retail-summary"), Step("retail-summary", {"min_quantity": 5})],
            volumes={"e-commerce": EXAMPLES / "retail-summary" / "data" / "warehouse" / "e_commerce.duckdb"},
        ),
        Scenario(
            "incremental-load",
            EXAMPLES / "incremental-load",
            TRIPS,
            databases={"lake": ("out/taxi.duckdb", ["taxi_trips"])},
        ),
        Scenario("postgres", EXAMPLES / "incremental-load", TRIPS, place="postgres"),
        Scenario(
            "join-and-export",
            EXAMPLES / "join-and-export",
            [Step("join-and-export")],
            databases={"shop": ("out/shop.duckdb", ["orders", "products"])},
            exports=["detailed/orders.csv", "input/orders.csv"],
        ),
        Scenario(
            "event-driven",
            EXAMPLES / "event-driven",
            [Step("event-driven"), Step("event-driven")],
            databases={"shop": ("out/shop.duckdb", ["orders"])},
        ),
        Scenario(
            "hard-text",
            CORPUS,
            [Step("hard-text"), Step("hard-text", {"said": "$$(A) $(A) \\n\n'\"; ø", "given": '$(X) "$$" 漢'})],
        ),
    ]
}


@dataclass
class Observed:
    """What a scenario left behind, without what must differ: names, uids, places and times."""

    executions: list[dict] = field(default_factory=list)
    tables: dict[str, pyarrow.Table] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    databases: dict[str, list[tuple]] = field(default_factory=dict)
    artifacts: list[dict] = field(default_factory=list)
    mails: list[tuple] = field(default_factory=list)
    # As they were before anything was left out, for messages and further looks.
    raw: list[dict] = field(default_factory=list)


def read_outputs(seen: Observed, number: int, execution: dict, content_at: Callable[[str], bytes]) -> None:
    for output in execution["status"].get("outputs", []):
        label = f"{number}/{execution['spec']['workflowRef']['name']}/{output['name']}"
        if output["type"] == "table":
            table = pyarrow.parquet.read_table(io.BytesIO(content_at(output["uri"])))
            assert table.num_rows == output["rows"]
            seen.tables[label] = table
        elif output["type"] == "file":
            seen.files[label] = content_at(output["uri"])


def comparable(execution: dict, names: dict[str, str]) -> dict:
    """What must be the same on a laptop and on a cluster."""

    def text(message: str | None) -> str:
        # Where the data is, and the name of the run.
        message = re.sub(r"(s3:/|file:/)?/[^\s:,;()`\"']*/", "…/", message or "")
        for name, replacement in names.items():
            message = message.replace(name, replacement)
        return message

    status = execution["status"]
    states = {entry["name"]: entry["state"] for entry in status["taskList"]}
    return {
        "conditions": {
            entry["type"]: (entry["status"], entry["reason"], text(entry.get("message")))
            for entry in status["conditions"]
        },
        "observedGeneration": status.get("observedGeneration"),
        "progress": status.get("progress"),
        "tasks": status["tasks"],
        "taskList": [
            # Not how often: pods and stores can be lost, and then there is one attempt more.
            {
                key: text(value) if key == "message" else value
                for key, value in entry.items()
                if key not in ("startTime", "duration", "attempt")
            }
            for entry in status["taskList"]
        ],
        # Nor that the store did not answer an attempt, which the next made good.
        "failures": [
            {**failure, "message": text(failure["message"])}
            for failure in status.get("failures", [])
            if failure["reason"] != "StoreUnreachable" or states.get(failure["task"]) != "Succeeded"
        ],
        "outputs": [
            {
                **{key: output[key] for key in output if key not in ("uri", "artifact", "bytes")},
                "published": "artifact" in output,
            }
            for output in status.get("outputs", [])
        ],
        "revision": status["resolved"]["revision"],
        # The API server leaves out what is null.
        "inputs": [
            {
                key: value
                for key, value in entry.items()
                if value is not None and key not in ("uri", "artifact", "digest", "bytes")
            }
            for entry in status["resolved"].get("inputs", [])
        ],
    }  # fmt: skip


def comparable_artifact(artifact: dict) -> dict:
    spec = artifact["spec"]
    kept = {key: value for key, value in spec.items() if key in ("artifact", "partition", "rows", "columns", "reclaimPolicy")}
    return {**kept, "derivedFrom": len(spec.get("derivedFrom", []))}


def comparable_mail(mail: Mail, names: dict[str, str]) -> tuple:
    body = mail.body
    for name, replacement in names.items():
        body = body.replace(name, replacement)
    return (tuple(mail.recipients), mail.subject, body, tuple(sorted(mail.attachments.items())))


def assert_equal(actual: Observed, wanted: Observed) -> None:
    """For two runs: rows, schemas, conditions, task states, artifacts, files, mails, databases."""
    for execution, other in zip(actual.executions, wanted.executions, strict=True):
        for key in other:
            assert execution[key] == other[key], key
    assert actual.tables.keys() == wanted.tables.keys()
    for label, table in wanted.tables.items():
        assert actual.tables[label].schema == table.schema, label
        assert_same_rows(rows(actual.tables[label]), rows(table), ordered=not label.endswith("/recent"))
    assert actual.files.keys() == wanted.files.keys()
    for label, content in wanted.files.items():
        # A page says when it was made. Everything else is equal to the byte.
        assert label.endswith("/summary") or actual.files[label] == content, f"{label} differs"
    assert actual.databases.keys() == wanted.databases.keys()
    for label, table in wanted.databases.items():
        assert_same_rows(actual.databases[label], table, ordered=False)
    assert actual.artifacts == wanted.artifacts
    assert collections.Counter(actual.mails) == collections.Counter(wanted.mails)


# --- on this machine


def run_locally(scenario: Scenario, workspace: Workspace, postgres: Postgres) -> Observed:
    seen, environment = Observed(), {}
    target = workspace.copy_example(scenario.folder.name, scenario.folder)
    if scenario.place == "postgres":
        postgres.new_database(workspace.database)
        environment["PINTAIL_SECRET_LAKE_PASSWORD"] = postgres.password
    names = {}
    for number, step in enumerate(scenario.steps):
        step.arrive(target / "data")
        inputs = [
            part
            for name, value in step.inputs.items()
            for part in ("--input", f"{name}={value if isinstance(value, str) else json.dumps(value)}")
        ]
        finished = workspace.pintail(
            "run", target, target / scenario.place, "--workflow", step.workflow, "-o", "json", *inputs, env=environment
        )
        assert finished.code == (0 if step.succeeds else 1), finished
        execution = finished.execution()
        names[execution["metadata"]["name"]] = f"<run {number}>"
        seen.raw.append(execution)
        seen.executions.append(comparable(execution, names))
        read_outputs(seen, number, execution, workspace.bytes_at)
        for output in execution["status"].get("outputs", []):
            if "artifact" in output:
                found = workspace.good("get", output["artifact"], "-o", "json")
                seen.artifacts.append(comparable_artifact(json.loads(found.out)))
    for name, (path, tables) in scenario.databases.items():
        with duckdb.connect(str(target / path), read_only=True) as database:
            for table in tables:
                seen.databases[f"{name}.{table}"] = kept_rows(database.execute(f'FROM "{table}"').to_arrow_table())
    if scenario.place == "postgres":
        seen.databases["lake.taxi_trips"] = server_rows(postgres, workspace.database)
    for path in scenario.exports:
        seen.files[path] = (target / "out" / path).read_bytes()
    seen.mails = [comparable_mail(mail, names) for mail in workspace.mailbox.mails]
    return seen


def kept_rows(table: pyarrow.Table) -> list[tuple]:
    return rows(table.select([name for name in table.column_names if name != "loaded_at"]))


def server_rows(postgres: Postgres, database: str) -> list[tuple]:
    with postgres.connect(database) as connection:
        cursor = connection.execute("SELECT * FROM taxi_trips")
        kept = [i for i, column in enumerate(cursor.description) if column.name != "loaded_at"]
        return [tuple(plain(row[i]) for i in kept) for row in cursor.fetchall()]


# --- on the cluster


class OnCluster:
    """A scenario in a namespace of its own, with data of its own in the bucket."""

    def __init__(self, scenario: Scenario, installation: Installation, postgres: Postgres | None, data: Path, name: str):
        self.scenario, self.installation, self.postgres, self.data = scenario, installation, postgres, data
        self.cluster = installation.cluster
        self.namespace = installation.new_namespace(name)
        self.database = "taxi_" + re.sub("[^a-z0-9]+", "_", self.namespace)
        self._mails_before = len(installation.mailbox.mails)

    def documents(self) -> list[dict]:
        """The manifests but for Executions. Data is below the namespace's name in the bucket."""
        folder = self.scenario.folder
        found = [] if (folder / "kustomization.yaml").exists() else manifests(folder)
        found += manifests(folder / "cluster")
        if self.scenario.place == "postgres":
            found = [document for document in found if document["metadata"]["name"] != "lake"]
            (lake,) = manifests(folder / "postgres" / "lake.yaml")
            lake["spec"]["postgres"] |= {"host": "examples", "database": self.database}
            lake["spec"]["postgres"]["port"] = self.postgres.port
            found.append(lake)
        for document in found:
            if bucket := document.get("spec", {}).get("s3"):
                bucket["prefix"] = f"{self.namespace}/{bucket['prefix']}"
        # Compared are the runs that are asked for here; data that arrives is to start none beside them.
        return [document for document in found if document["kind"] not in ("Execution", "LaunchPlan")]

    def prepare(self) -> None:
        scenario, namespace = self.scenario, self.namespace
        shutil.copytree(scenario.folder / "data", self.data, dirs_exist_ok=True)
        if scenario.place == "postgres":
            self.postgres.new_database(self.database)
            password = {
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "lake"},
                "stringData": {"password": self.postgres.password},
            }  # fmt: skip
            self.cluster.apply(namespace, password)
        documents = self.documents()
        for document in documents:
            if document["kind"] == "PersistentVolumeClaim":
                self.installation.need_volume(namespace, document["metadata"]["name"])
        if (scenario.folder / "kustomization.yaml").exists():
            self.cluster.apply_from(namespace, "-k", str(scenario.folder))
        self.cluster.apply(namespace, *documents)
        for claim, file in scenario.volumes.items():
            self.installation.put_on_volume(namespace, claim, file)

    def prefix(self) -> str:
        return next(
            document["spec"]["s3"]["prefix"]
            for document in self.documents()
            if document.get("spec", {}).get("s3") and document["metadata"]["name"] == "raw"
        )

    def run(self, deadline_s: float = 150) -> Observed:
        self.prepare()
        seen, names = Observed(), {}
        for number, step in enumerate(self.scenario.steps):
            step.arrive(self.data)
            self.installation.buckets.upload(self.data, "pintail-examples", self.prefix())
            name = f"{step.workflow}-{number}"
            self.installation.start(self.namespace, step.workflow, name, step.inputs)
            execution = self.installation.finished(self.namespace, name, deadline_s)
            names[name] = f"<run {number}>"
            seen.raw.append(execution)
            wanted = "True" if step.succeeds else "False"
            assert condition(execution, "Succeeded")["status"] == wanted, self.cluster.describe(self.namespace)
            seen.executions.append(comparable(execution, names))
            read_outputs(seen, number, execution, self.content_at)
            for output in execution["status"].get("outputs", []):
                if "artifact" in output:
                    seen.artifacts.append(comparable_artifact(self.artifact(output["artifact"])))
        seen.databases = self.read_databases()
        for path in self.scenario.exports:
            prefix = self.prefix().removesuffix("/")
            seen.files[path] = self.installation.buckets.get("pintail-examples", f"{prefix}/out/{path}")
        seen.mails = [
            comparable_mail(mail, names)
            for mail in self.installation.mailbox.mails[self._mails_before :]
            if self.is_mine(mail)
        ]
        return seen

    def is_mine(self, mail: Mail) -> bool:
        """By the subjects of this example: mails of all namespaces come to one mailbox."""
        subjects = {
            "monthly-report": "Best month of",
            "broken-report": "The monthly report failed",
            "anomaly-check": "wrong totals in",
        }
        # Those of plans have another recipient.
        return mail.recipients == ["data@example.com"] and subjects.get(self.scenario.name, "no mail") in mail.subject

    def artifact(self, name: str) -> dict:
        return eventually(lambda: self.cluster.object(self.namespace, "artifacts", name), f"Artifact {name}")

    def content_at(self, uri: str) -> bytes:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        return self.installation.buckets.get(bucket, key)

    def read_databases(self) -> dict[str, list[tuple]]:
        """Through a workflow, since only pods reach the volume."""
        if self.scenario.place == "postgres":
            return {"lake.taxi_trips": server_rows(self.postgres, self.database)}
        seen = {}
        for name, (_, tables) in self.scenario.databases.items():
            tasks = [
                {"name": f"of_{table}", "reads": [name], "duckdb": {"query": f"FROM {name}.{table}"}} for table in tables
            ]
            workflow = {
                "apiVersion": "pintail.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": f"read-{name}"},
                "spec": {"tasks": tasks},
            }  # fmt: skip
            self.cluster.apply(self.namespace, workflow)
            execution = self.installation.execute(self.namespace, f"read-{name}", f"read-{name}")
            assert condition(execution, "Succeeded")["status"] == "True", self.cluster.describe(self.namespace)
            for output in execution["status"]["outputs"]:
                table = pyarrow.parquet.read_table(io.BytesIO(self.content_at(output["uri"])))
                seen[f"{name}.{output['name'].removeprefix('of_')}"] = kept_rows(table)
        return seen


def all_objects(installation: Installation, namespace: str) -> dict[str, tuple]:
    """Version and generation of every object of ours in the namespace, and its pods."""
    found = {}
    for kind in KINDS:
        for thing in installation.cluster.objects(namespace, kind):
            meta = thing["metadata"]
            found[f"{kind}/{meta['name']}"] = (meta["resourceVersion"], meta["generation"], meta["uid"])
    return found


"""Power cuts: `kill -9` of the run and of its runners at random moments, then `resume`. Results, databases and exported
files are those of a run that nobody disturbed, and every task has exactly one committed result.

`PINTAIL_KILL_SEED=<seed>` repeats the moments of an earlier session; what the machine does between them is its own.
"""

import collections
import json
import os
import random
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import psutil
import pytest

from compare import assert_same_rows, plain, rows
from servers import Postgres, wait_for
from workspace import ROOT, Workspace, outputs, succeeded, task

SEED = int(os.environ.get("PINTAIL_KILL_SEED") or 20261121)
KILLS_A_SCENARIO = 15


@dataclass
class Scenario:
    """An example, run once or several times, and where its results are."""

    example: str
    workflows: tuple[str, ...]
    # What happens to the example's folder before each run; as many runs as entries.
    steps: tuple = (lambda folder: None,)
    # Tables by the path of their database file below the example's folder.
    databases: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    place: str = "local"
    store_in_bucket: bool = False

    @property
    def name(self) -> str:
        return f"{self.example}-{self.place}{'-bucket' if self.store_in_bucket else ''}"


def arrive(folder: Path):
    for file in (folder / "data" / "later").glob("*.csv"):
        shutil.copy(file, folder / "data" / "trips")


def append(folder: Path):
    """Without a key, a load that is done twice shows."""
    manifest = folder / "workflow.yaml"
    text = manifest.read_text().replace("mode: Upsert\n          key: [order_id]", "mode: Append")
    assert "Append" in text
    manifest.write_text(text)


SCENARIOS = [
    Scenario(
        "incremental-load",
        ("incremental-load",),
        steps=(lambda folder: None, arrive),
        databases=("out/taxi.duckdb",),
    ),
    Scenario("retail-summary", ("recent-orders", "retail-summary")),
    Scenario(
        "join-and-export",
        ("join-and-export",),
        databases=("out/shop.duckdb",),
        files=("out/detailed/orders.csv", "out/input/orders.csv"),
    ),
    Scenario("mask-personal-data", ("mask-personal-data",), steps=(append,), databases=("out/warehouse.duckdb",)),
    Scenario("incremental-load", ("incremental-load",), steps=(lambda folder: None, arrive), place="postgres"),
    Scenario("monthly-report", ("monthly-report",)),
    Scenario("retail-summary", ("recent-orders", "retail-summary"), store_in_bucket=True),
]


@dataclass
class Observed:
    """What a scenario left behind, without what must differ: uids and times."""

    tables: dict[str, list[tuple]] = field(default_factory=dict)
    values: dict[str, object] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    databases: dict[str, list[tuple]] = field(default_factory=dict)
    duration_s: float = 0


# Set by the clock or by chance, in the examples' tables and in the loader's own.
VARYING = {
    "loaded_at",
    "execution",
    "execution_uid",
    "started_at",
    "ended_at",
    "at",
    "report",
    "digest",
    "pod_uid",
    "recorded_at",
}


def kept_rows(cursor) -> list[tuple]:
    names = [column[0] for column in cursor.description]
    kept = [index for index, name in enumerate(names) if name not in VARYING]
    return [tuple(plain(row[index]) for index in kept) for row in cursor.fetchall()]


def file_tables(path: Path) -> dict[str, list[tuple]]:
    with duckdb.connect(str(path), read_only=True) as database:
        tables = [row[0] for row in database.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
        return {table: kept_rows(database.execute(f'FROM "{table}"')) for table in tables}


def server_tables(postgres: Postgres, name: str) -> dict[str, list[tuple]]:
    with postgres.connect(name) as database:
        tables = database.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        return {table: kept_rows(database.execute(f'SELECT * FROM "{table}"')) for (table,) in tables}


def observe(killer: "Killer", executions: list[dict]) -> Observed:
    workspace, scenario, seen = killer.workspace, killer.scenario, Observed()
    folder = workspace.path("examples", scenario.example)
    for number, execution in enumerate(executions):
        for name, output in outputs(execution).items():
            label = f"{number}/{execution['spec']['workflowRef']['name']}/{name}"
            if output["type"] == "table":
                seen.tables[label] = rows(workspace.table(output))
            elif output["type"] == "file":
                seen.files[label] = workspace.bytes_at(output["uri"])
            else:
                seen.values[label] = output["value"]
    for file in scenario.files:
        seen.files[file] = (folder / file).read_bytes()
    for path in scenario.databases:
        seen.databases |= {f"{path}:{table}": content for table, content in file_tables(folder / path).items()}
    if scenario.place == "postgres":
        seen.databases |= server_tables(killer.postgres, workspace.database)
    return seen


def assert_equal(actual: Observed, undisturbed: Observed):
    assert actual.values == undisturbed.values
    assert actual.files.keys() == undisturbed.files.keys()
    for name, content in undisturbed.files.items():
        # A page says when it was made. Everything else is equal to the byte.
        assert name.endswith("/summary") or actual.files[name] == content, f"{name} differs"
    for kind in ("tables", "databases"):
        left, right = getattr(actual, kind), getattr(undisturbed, kind)
        assert left.keys() == right.keys()
        for name in right:
            assert_same_rows(left[name], right[name], ordered=False)


def assert_one_commit_a_task(workspace: Workspace, execution: dict):
    stored = workspace.stored(f"default/runs/{execution['metadata']['uid']}/")
    done = [entry["name"] for entry in execution["status"]["taskList"] if entry["state"] == "Succeeded"]
    commits = {key.split("/")[-2]: content for key, content in stored.items() if key.endswith("/_commit")}
    assert sorted(commits) == sorted(done)
    assert all(json.loads(content)["report"] in stored for content in commits.values())


class Killer:
    """Runs commands and kills them, or their runners, at moments of its choice."""

    def __init__(self, workspace: Workspace, postgres: Postgres, scenario: Scenario, draw: random.Random, wanted: int):
        self.workspace, self.postgres, self.scenario, self.draw, self.left = workspace, postgres, scenario, draw, wanted
        self.environment, self.store = {}, []
        if scenario.store_in_bucket:
            place, self.environment = workspace.bucket_store()
            self.store = ["--store", place]
        if scenario.place == "postgres":
            postgres.new_database(workspace.database)
            self.environment["PINTAIL_SECRET_LAKE_PASSWORD"] = postgres.password
        self.counts = collections.Counter()
        self.busy_s = 0.0
        self.processes: list[psutil.Process] = []

    def command(self, command: list[str], duration_s: float) -> tuple[int, str]:
        """Runs a command to its end or to its death, and gives exit code and what it said on stderr."""
        start = time.monotonic()
        process = self.workspace.start([*command, *self.store], self.environment)
        if self.left:
            try:
                process.wait(self.draw.uniform(0, duration_s))
            except subprocess.TimeoutExpired:
                self.kill(process)
        _, err = process.communicate(timeout=60)
        self.busy_s += time.monotonic() - start
        return process.returncode, err

    def kill(self, process: subprocess.Popen):
        """Kills the run, one of its runners, or, as when the power goes, all at once."""
        what = self.draw.choice(["run", "runner", "all"])
        try:
            run = psutil.Process(process.pid)
            runners = run.children(recursive=True)
            while what == "runner" and not runners and process.poll() is None:
                runners = run.children(recursive=True)
            self.processes += runners
            victims = {"run": [run], "runner": runners and [self.draw.choice(runners)], "all": [run, *runners]}[what]
            for victim in victims:
                victim.kill()
        except psutil.NoSuchProcess:
            return
        if victims:
            self.left -= 1
            self.counts[what] += 1

    def ask(self, *arguments: str) -> str:
        return self.workspace.good(*arguments, *self.store, env=self.environment).out

    def runs(self) -> dict[str, list[dict]]:
        """Every Execution on record, by workflow, oldest first."""
        found: dict[str, list[dict]] = {}
        for name in reversed(self.ask("list", "-o", "name").split()):
            execution = json.loads(self.ask("get", name.rpartition("/")[2], "-o", "json"))
            found.setdefault(execution["spec"]["workflowRef"]["name"], []).append(execution)
        return found

    def step(self, number: int, duration_s: float) -> list[dict]:
        """One run of the example, however often it takes, and its Executions in the scenario's order."""
        folder = f"examples/{self.scenario.example}"
        command = ["bin/pintail", "run", folder, f"{folder}/{self.scenario.place}"]
        done: dict[str, dict] = {}
        for _ in range(60):
            recorded = {name: list_of[number] for name, list_of in self.runs().items() if len(list_of) > number}
            done = {name: execution for name, execution in recorded.items() if succeeded(execution)}
            if len(done) == len(self.scenario.workflows):
                return [done[name] for name in self.scenario.workflows]
            interrupted = [execution for name, execution in recorded.items() if name not in done]
            if interrupted:
                self.resume(interrupted[0], duration_s)
                continue
            # Killed before the run was on record, or between two workflows: there is nothing to resume.
            missing = next(name for name in self.scenario.workflows if name not in done)
            restricted = ["--workflow", missing] if done else []
            self.command([*command, *restricted], duration_s)
        raise AssertionError(f"{self.scenario.example} does not come to an end; done: {list(done)}")

    def resume(self, execution: dict, duration_s: float):
        name = execution["metadata"]["name"]
        code, said = self.command(["bin/pintail", "resume", name, "-o", "json"], duration_s)
        assert code in (0, -9), said
        again = json.loads(self.ask("get", name, "-o", "json"))
        assert again["metadata"]["uid"] == execution["metadata"]["uid"]

    def settle(self):
        """Runners end with the run that started them; until they have, files may still move."""
        wait_for(lambda: not any(alive(process) for process in self.processes), 20, "orphaned runners to end")


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def play(killer: Killer, durations_s: list[float]) -> tuple[list[dict], list[float]]:
    """Every step of the scenario; the Executions, and how long the commands of each step took."""
    folder = killer.workspace.copy_example(killer.scenario.example)
    executions, took_s = [], []
    for number, prepare in enumerate(killer.scenario.steps):
        prepare(folder)
        before_s = killer.busy_s
        executions += killer.step(number, durations_s[number] if durations_s else 0)
        took_s.append(killer.busy_s - before_s)
    killer.settle()
    return executions, took_s


def undisturbed(scenario: Scenario, make_workspace, postgres) -> tuple[Observed, list[float]]:
    killer = Killer(make_workspace(f"undisturbed-{scenario.name}"), postgres, scenario, random.Random(0), 0)
    executions, took_s = play(killer, [])
    return observe(killer, executions), took_s


@pytest.mark.parametrize("number", range(len(SCENARIOS)), ids=[scenario.name for scenario in SCENARIOS])
def test_a_killed_run_resumes_to_the_same_end(number, make_workspace, mailbox, postgres, record_property):
    scenario, draw = SCENARIOS[number], random.Random(SEED * 1000 + number)
    expected, durations_s = undisturbed(scenario, make_workspace, postgres)
    counts, rounds = collections.Counter(), 0
    while (left := KILLS_A_SCENARIO - counts.total()) > 0:
        mailbox.mails.clear()
        workspace = make_workspace(f"killed-{rounds}-{scenario.name}")
        killer = Killer(workspace, postgres, scenario, draw, min(left, draw.choice([1, 2, 3, 4, 5])))
        executions, took_s = play(killer, durations_s)
        if not killer.counts:
            # Undisturbed once more. The machine may have been busy with other things the first time.
            durations_s = [min(pair) for pair in zip(durations_s, took_s, strict=True)]

        assert_equal(observe(killer, executions), expected)
        for execution in executions:
            assert_one_commit_a_task(workspace, execution)
        if scenario.example == "monthly-report":
            # At least once, and every repeat can be told by its id.
            assert len({mail.message["Message-ID"] for mail in mailbox.mails}) == 1
            assert len({mail.subject for mail in mailbox.mails}) == 1
        counts += killer.counts
        rounds += 1
        assert rounds < 40, "the runs end before they are killed"
        shutil.rmtree(workspace.folder)
    record_property("kill -9", f"seed {SEED}: {dict(counts)} over {rounds} runs")


# --- two runners, one order

SHIM = """#!/bin/sh
# Keeps a copy of the work order, then is the runner.
previous=
for argument; do
  if [ "$previous" = --order ]; then cp "$argument" "{orders}/$$.json"; fi
  previous=$argument
done
exec "{runner}" "$@"
"""


def work_orders(workspace: Workspace, example: str) -> dict[str, dict]:
    """The work orders of the example's tasks, taken from a run of it."""
    programs, orders = workspace.path("shim", "bin"), workspace.path("orders")
    programs.mkdir(parents=True)
    orders.mkdir()
    shutil.copy(ROOT / "bin" / "pintail", programs)
    workspace.path("shim", "lib").symlink_to(ROOT / "lib")
    runner = programs / "pintail-runner"
    runner.write_text(SHIM.format(orders=orders, runner=ROOT / "bin" / "pintail-runner"))
    runner.chmod(0o755)
    folder = workspace.copy_example(example)
    finished = workspace.command([str(programs / "pintail"), "run", str(folder), str(folder / "local")])
    assert finished.code == 0, finished
    found = [json.loads(path.read_text()) for path in orders.glob("*.json")]
    return {order["identity"]["task"]: order for order in found}


def race(workspace: Workspace, order: dict, number: int) -> list[tuple[int, str]]:
    """Two runners with that order at once, as attempts of a run that nobody has done anything for yet."""
    order = json.loads(json.dumps(order))
    order["identity"]["execution_uid"] = f"race-{number}"
    path = workspace.write(f"race-{number}.json", json.dumps(order))
    runners = [
        workspace.start(
            [
                "bin/pintail-runner", "run", "--pod-uid", f"pod-{number}-{which}", "--parent-pid", str(os.getpid()),
                "--order", str(path), "--termination-message", str(workspace.path(f"said-{number}-{which}.json")),
            ]
        )
        for which in range(2)
    ]  # fmt: skip
    ended = [(runner, runner.communicate(timeout=60)[1]) for runner in runners]
    return sorted((runner.returncode, err) for runner, err in ended)


def test_of_two_runners_with_one_order_one_wins_and_the_other_is_superseded(workspace):
    order = work_orders(workspace, "hello")["trip_time"]
    for number in range(8):
        winner, other = race(workspace, order, number)
        assert winner[0] == 0, winner
        assert other[0] == 3, other
        (commit,) = workspace.store.glob(f"default/runs/race-{number}/**/_commit")
        assert json.loads(commit.read_text())["pod_uid"].startswith(f"pod-{number}-")


def test_two_runners_with_one_order_load_its_rows_once(workspace):
    order = work_orders(workspace, "mask-personal-data")["masked_orders"]
    database = workspace.path("examples", "mask-personal-data", "out", "warehouse.duckdb")
    database.unlink()
    # The secret comes by the environment, which a shim cannot hand on.
    order["connections"] = [c for c in order["connections"] if "Secrets" not in c["target"]]
    order["work"]["DuckDb"]["queries"][0]["sql"] = "SELECT order_id, total FROM orders"
    order["work"]["DuckDb"]["load"]["mode"] = "Append"
    order["work"]["DuckDb"]["load"]["key"] = []
    winner, other = race(workspace, order, 0)
    assert winner[0] == 0, winner
    # The one that finds the file locked says so; the one that comes after the commit is superseded.
    assert other[0] in (3, 7), other
    with duckdb.connect(str(database), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM orders").fetchall() == [(1500,)]
        assert connection.execute("SELECT count(*) FROM _pintail_loads").fetchall() == [(1,)]


def test_a_run_whose_runner_was_killed_goes_on_by_itself(workspace):
    """A lost process is nobody's fault and costs none of the task's retries."""
    workspace.write(
        "slow/workflow.yaml",
        """
apiVersion: pintail.dev/v1alpha1
kind: Workflow
metadata:
  name: slow
spec:
  tasks:
    - name: counted
      duckdb:
        query: SELECT count(*) AS n FROM range(20000) a, range(20000) b WHERE (a.range * b.range) % 7 = 3
""",
    )
    process = workspace.start(["bin/pintail", "run", "slow", "-o", "json"])
    runner = wait_for(lambda: psutil.Process(process.pid).children(), 30, "the runner")[0]
    runner.kill()
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert task(json.loads(out), "counted")["attempt"] == 2

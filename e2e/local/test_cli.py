"""The commands around a run, as a person and as a program use them."""

import json
import re
import signal

import pytest

from servers import wait_for
from workspace import outputs, task

SIX_MISTAKES = """\
apiVersion: pintail.dev/v1alpha1
kind: Workflow
metadata:
  name: six
spec:
  inputs:
    - name: amount
      type: DECMAL(10,2)
  tasks:
    - name: first
      uses: [amuont]
      duckdb:
        query: SELECT 1 AS one
    - name: second
      timeout: soon
      duckdb:
        query: SELECT 2 AS two
    - name: third
      dependsOn: [fourth]
      duckdb:
        query: SELECT 3 AS three
    - name: fourth
      dependsOn: [third]
      duckdb:
        query: SELECT 4 AS four
    - name: fifth
      writes: [warehouse]
      when: $(tasks.first.rows >)
      duckdb:
        query: SELECT 5 AS five
"""
# Line and a word of each message.
PLACES = [(8, "DECMAL"), (11, "amuont"), (15, "soon"), (19, "third"), (27, "warehouse"), (28, "when|expression|rows")]

TWO = """
apiVersion: pintail.dev/v1alpha1
kind: Workflow
metadata:
  name: two
spec:
  inputs:
    - name: factor
      type: BIGINT
      default: 2
  tasks:
    - name: base
      duckdb:
        query: SELECT i FROM range(10) t(i)
    - name: scaled
      uses: [base, factor]
      duckdb:
        query: SELECT i, i * $factor AS product FROM base
"""


@pytest.fixture
def ran(workspace):
    """A workspace with one run of `two`, and that run's Execution."""
    workspace.write("two/workflow.yaml", TWO)
    workspace.execution = workspace.good("run", "two", "-o", "json").execution()
    return workspace


def name_of(workspace) -> str:
    return workspace.execution["metadata"]["name"]


def test_six_mistakes_are_six_diagnostics_with_positions(workspace):
    workspace.write("six/workflow.yaml", SIX_MISTAKES)
    finished = workspace.pintail("lint", "six", "-o", "json")
    assert finished.code == 1, finished
    document = json.loads(finished.out)
    problems = document["problems"] if isinstance(document, dict) else document
    assert len(problems) == 6, finished.out
    concise = workspace.pintail("lint", "six", "-o", "concise")
    assert concise.code == 1
    lines = [line for line in (concise.out + concise.err).splitlines() if "six/workflow.yaml:" in line]
    assert len(lines) == 6, concise
    for number, word in PLACES:
        assert any(f"six/workflow.yaml:{number}:" in line and re.search(word, line) for line in lines), (
            number,
            concise,
        )


def test_sarif_is_what_code_scanning_reads(workspace):
    workspace.write("six/workflow.yaml", SIX_MISTAKES)
    finished = workspace.pintail("lint", "six", "-o", "sarif")
    assert finished.code == 1, finished
    document = json.loads(finished.out)
    assert document["version"] == "2.1.0"
    (run,) = document["runs"]
    assert run["tool"]["driver"]["name"] == "pintail"
    rules = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert len(run["results"]) == 6
    for result in run["results"]:
        assert result["ruleId"] in rules
        region = result["locations"][0]["physicalLocation"]["region"]
        assert region["startLine"] >= 1 and region["startColumn"] >= 1
    assert sorted({r["locations"][0]["physicalLocation"]["region"]["startLine"] for r in run["results"]}) == [
        line for line, _ in PLACES
    ]


def test_lint_says_nothing_is_wrong(ran):
    finished = ran.pintail("lint", "two")
    assert finished.code == 0, finished
    assert json.loads(ran.good("lint", "two", "-o", "json").out) is not None


def test_data_goes_to_stdout_and_everything_else_to_stderr(ran):
    finished = ran.good("run", "two", "-o", "json")
    assert finished.executions().keys() == {"two"}
    assert finished.err.strip()
    name = ran.good("run", "two", "-o", "name")
    assert len(name.out.split()) == 1


def test_no_colours_where_there_is_no_terminal(ran):
    for command in (["run", "two"], ["list"], ["get", name_of(ran)], ["logs", name_of(ran)], ["lint", "nowhere"]):
        finished = ran.pintail(*command)
        assert "\x1b[" not in finished.out + finished.err, command


def test_runs_are_listed_newest_first(ran):
    second = ran.good("run", "two", "-o", "json").execution()["metadata"]["name"]
    listed = [line.rpartition("/")[2] for line in ran.good("list", "-o", "name").out.split()]
    assert listed == [second, name_of(ran)]
    assert second in ran.good("list").out


def test_a_run_is_shown_as_it_was_printed(ran):
    assert json.loads(ran.good("get", name_of(ran), "-o", "json").out) == ran.execution
    assert json.loads(ran.good("get", "@latest", "-o", "json").out) == ran.execution
    pretty = ran.good("get", name_of(ran)).out
    assert "base" in pretty and "scaled" in pretty and "Succeeded" in pretty


def test_logs_are_those_of_the_tasks(ran):
    text = ran.good("logs", name_of(ran)).out
    assert "base" in text and "scaled" in text
    only = ran.good("logs", name_of(ran), "--task", "base").out
    assert "scaled" not in only
    unknown = ran.pintail("logs", name_of(ran), "--task", "basee")
    assert unknown.code != 0 and "basee" in unknown.err


def test_preview_shows_rows_and_answers_questions(ran):
    text = ran.good("preview", name_of(ran), "scaled").out
    assert "product" in text and "18" in text
    answer = ran.good("preview", name_of(ran), "scaled", "--sql", "SELECT sum(product) AS total FROM result").out
    assert "total" in answer and "90" in answer
    # A task's result that is no output of the workflow.
    assert "9" in ran.good("preview", name_of(ran), "base").out
    unknown = ran.pintail("preview", name_of(ran), "scald")
    assert unknown.code != 0 and "scaled" in unknown.err


def test_preview_cannot_reach_outside(ran):
    ran.write("outside.csv", "a\n1\n")
    finished = ran.pintail("preview", name_of(ran), "scaled", "--sql", "SELECT * FROM 'outside.csv'")
    assert finished.code != 0, finished


def test_sql_sees_what_the_task_sees(ran):
    finished = ran.good("sql", "scaled", "-c", "SELECT sum(i * $factor) AS total FROM base")
    assert "90" in finished.out


def test_what_is_not_there_is_named(ran):
    for command in (
        ["get", "two-zzzz"],
        ["logs", "two-zzzz"],
        ["preview", "two-zzzz"],
        ["resume", "two-zzzz"],
        ["retry", "two-zzzz"],
    ):
        finished = ran.pintail(*command)
        assert finished.code in (1, 2), (command, finished)
        assert "two-zzzz" in finished.err, (command, finished)
        assert "panicked" not in finished.err


def test_a_finished_run_is_resumed_to_nothing(ran):
    finished = ran.good("resume", name_of(ran), "-o", "json")
    assert finished.execution()["metadata"]["uid"] == ran.execution["metadata"]["uid"]
    assert finished.execution()["status"]["completionTime"] == ran.execution["status"]["completionTime"]


def test_a_run_under_way_is_not_resumed_by_a_second_process(workspace):
    sql = "SELECT count(*) AS n FROM range(1000000) a, range(1000000) b WHERE a.range * b.range % 7 = 3"
    workspace.write("two/workflow.yaml", TWO.replace("SELECT i FROM range(10) t(i)", sql).replace("i, i *", "n, n *"))
    process = workspace.start(["bin/pintail", "run", "two"])
    runs = workspace.path(".pintail", "default", "runs")
    wait_for(lambda: list(runs.glob("*/base/a1/*")), 30, "the first attempt")
    refused = workspace.pintail("resume", "@latest")
    assert refused.code == 1, refused
    assert "two-" in refused.err and "under way" in refused.err or "running" in refused.err, refused
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)


def test_retry_takes_over_what_is_equal(workspace):
    broken = TWO.replace("i * $factor AS product", "i * $factor AS product, error('no') AS never")
    workspace.write("two/workflow.yaml", broken)
    failed = workspace.pintail("run", "two", "-o", "json")
    assert failed.code == 1, failed
    first = failed.execution()
    assert task(first, "base")["state"] == "Succeeded" and task(first, "scaled")["state"] == "Failed"

    workspace.write("two/workflow.yaml", TWO)
    retried = workspace.good("retry", first["metadata"]["name"], "two", "-o", "json").execution()
    assert retried["metadata"]["name"] != first["metadata"]["name"]
    assert retried["spec"]["retryOf"] == {"execution": first["metadata"]["name"]}
    assert task(retried, "base")["reusedFrom"] == first["metadata"]["name"]
    assert "reusedFrom" not in task(retried, "scaled")
    assert workspace.table(outputs(retried)["scaled"]).column("product").to_pylist() == [2 * i for i in range(10)]


def test_retry_reads_the_manifests_again(ran):
    """What is mended in a manifest is what a retry is for; what is equal is still taken over."""
    ran.write("two/workflow.yaml", TWO.replace("i * $factor", "i - $factor"))
    retried = ran.good("retry", name_of(ran), "-o", "json").execution()
    assert task(retried, "base")["reusedFrom"] == name_of(ran)
    assert ran.table(outputs(retried)["scaled"]).column("product").to_pylist() == [i - 2 for i in range(10)]


def test_a_failed_run_says_how_to_go_on(workspace):
    workspace.write("two/workflow.yaml", TWO.replace("FROM base", "FROM bsae"))
    finished = workspace.pintail("run", "two")
    assert finished.code == 1, finished
    assert "scaled" in finished.err and "bsae" in finished.err
    assert "pintail logs" in finished.err or "pintail retry" in finished.err, finished


def test_artifacts_are_listed_and_previewed_by_their_dataset(workspace):
    workspace.write(
        "two/workflow.yaml",
        TWO
        + "  outputs:\n    - name: scaled\n      value: $(tasks.scaled)\n      publish:\n        artifact: products\n",
    )
    execution = workspace.good("run", "two", "-o", "json").execution()
    artifact = outputs(execution)["scaled"]["artifact"]
    assert artifact in workspace.good("list", "artifacts", "-o", "name").out
    assert "products" in workspace.good("list", "artifacts").out
    assert "product" in workspace.good("preview", "products").out
    assert "90" in workspace.good("preview", artifact, "--sql", "SELECT sum(product) FROM result").out


def test_version_and_completions(workspace):
    assert "1.5.5" in workspace.good("version").out
    for shell in ("bash", "zsh", "fish"):
        assert "preview" in workspace.good("completions", shell).out
    assert workspace.pintail("--help").code == 0

"""The corpus of SQL: every right query passes `pintail lint`, runs, and gives the columns that lint told; every wrong one is
refused at its place, by its rule, with its suggestion."""

import json

import duckdb
import pytest
import yaml

from workspace import ROOT, outputs

CORPUS = ROOT / "e2e" / "corpus"
TABLES = yaml.safe_load((CORPUS / "tables.yaml").read_text())
# As many further outputs as a task may have.
OUTPUTS_MAX = 20
MARK = "§"


def entries(kind: str, topic: str) -> list:
    return yaml.safe_load((CORPUS / kind / f"{topic}.yaml").read_text())


def topics(kind: str) -> list[str]:
    return sorted(path.stem for path in (CORPUS / kind).glob("*.yaml"))


def names_in(texts: list[str]) -> list[str]:
    """The tables of the corpus, and those of its scalars that the SQL names."""
    inputs = TABLES["inputs"]
    tables = [entry["name"] for entry in inputs if entry["type"] == "table"]
    scalars = [entry["name"] for entry in inputs if entry["type"] != "table"]
    return tables + [name for name in scalars if any(f"${name}" in text for text in texts)]


def manifest(name: str, tasks: list[dict], inputs: list[dict] = TABLES["inputs"]) -> str:
    spec = {"inputs": inputs, "tasks": tasks}
    document = {"apiVersion": "pintail.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": name}, "spec": spec}
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def right_tasks(topic: str) -> list[dict]:
    queries = [entry for entry in entries("right", topic) if isinstance(entry, str)]
    tasks = []
    for start in range(0, len(queries), OUTPUTS_MAX):
        batch = queries[start : start + OUTPUTS_MAX]
        results = [{"name": f"q{start + index}", "query": query} for index, query in enumerate(batch)]
        tasks.append({"name": f"t{start}", "uses": names_in(batch), "duckdb": {"outputs": results}})
    for index, entry in enumerate(entry for entry in entries("right", topic) if not isinstance(entry, str)):
        uses = names_in([*entry["setup"], entry["query"]])
        tasks.append({"name": f"s{index}", "uses": uses, "duckdb": entry})
    return tasks


def test_the_corpus_of_right_queries_is_large():
    assert sum(len(entries("right", topic)) for topic in topics("right")) >= 150


@pytest.mark.parametrize("topic", topics("right"))
def test_right_queries_pass_run_and_give_the_columns_that_were_told(workspace, topic):
    workspace.write("workflow.yaml", manifest(topic, right_tasks(topic)))
    linted = workspace.pintail("lint", "workflow.yaml", "-o", "json")
    found = json.loads(linted.out)
    assert found["problems"] == [], "\n".join(f"{p['path']}: {p['message']}" for p in found["problems"])
    told = {(result["task"], result["output"]): result["columns"] for result in found["results"]}
    given = outputs(workspace.good("run", "workflow.yaml", "-o", "json").execution())
    assert len(given) == len(told)
    for (task, output), columns in told.items():
        name = task if output == "result" else f"{task}_{output}"
        path = given[name]["uri"].removeprefix("file://")
        described = duckdb.execute(f"DESCRIBE FROM read_parquet('{path}', hive_partitioning = false)").fetchall()
        assert columns == [{"name": column[0], "type": column[1]} for column in described], (task, output)
        assert columns == given[name]["columns"], (task, output)


def wrong_document(name: str, entry: dict) -> str:
    """A workflow with the entry's tasks, or with its SQL as the only one; the mark is still in it."""
    document = manifest(name, [], TABLES["inputs"]).replace("  tasks: []\n", "  tasks:\n")
    tasks = entry.get("tasks")
    if tasks is None:
        uses = ", ".join(names_in([entry["sql"].replace(MARK, "")]))
        lines = "".join(f"          {line}\n" for line in entry["sql"].splitlines())
        tasks = f"- name: t\n  uses: [{uses}]\n  duckdb:\n    query: |-\n{lines.replace('          ', '      ')}"
    return document + "".join(f"    {line}\n" for line in tasks.splitlines())


def wrong_manifests(topic: str) -> tuple[str, list[dict]]:
    """The file of a topic, and the problem that each of its workflows has."""
    text, expected = "", []
    for index, entry in enumerate(entries("wrong", topic)):
        text += "---\n" + wrong_document(f"w{index}", entry)
        before, _, after = text.partition(MARK)
        line = before.rpartition("\n")[2]
        expected.append(
            {
                "line": before.count("\n") + 1,
                "column": len(line) + 1,
                "rule": entry["rule"],
                "suggestion": entry.get("suggestion"),
            }
        )
        text = before + after
    return text, expected


def test_the_corpus_of_wrong_queries_is_large_and_breaks_every_rule_of_sql():
    wrong = [entry for topic in topics("wrong") for entry in entries("wrong", topic)]
    assert len(wrong) >= 150
    assert all(MARK in entry.get("tasks", entry.get("sql", "")) for entry in wrong)
    broken = {entry["rule"] for entry in wrong}
    rules = (ROOT / "crates/plan/src/rule.rs").read_text().partition("// SQL.")[2].partition("// Tasks.")[0]
    of_sql = {line.split('"')[1] for line in rules.splitlines() if line.startswith("    ") and line[4:5].isupper()}
    # The others are held by tests of their own.
    assert of_sql - broken <= {"expression-in-sql", "missing-query", "sensitive-column"}


@pytest.mark.parametrize("topic", topics("wrong"))
def test_wrong_queries_are_refused_at_their_place_with_a_suggestion(workspace, topic):
    text, expected = wrong_manifests(topic)
    workspace.write("workflow.yaml", text)
    workspace.write("shop.yaml", (CORPUS / "shop.yaml").read_text())
    found = json.loads(workspace.pintail("lint", "workflow.yaml", "shop.yaml", "-o", "json").out)["problems"]
    shown = [{field: problem[field] for field in ("line", "column", "rule", "suggestion")} for problem in found]
    assert shown == expected

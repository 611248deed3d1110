"""`pintail lsp`, by a scripted editor."""

import json
import subprocess

import pytest

from language_client import LanguageClient
from workspace import EXAMPLES

NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/generate.py"))


@pytest.fixture
def editor(workspace):
    """Starts servers for folders; none may outlive the test."""
    processes = []

    def start(*arguments: str) -> LanguageClient:
        process = subprocess.Popen(
            ["bin/pintail", "lsp", *map(str, arguments)],
            cwd=workspace.folder,
            env=workspace.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        processes.append(process)
        return LanguageClient(process, workspace.folder)

    yield start
    for process in processes:
        process.kill()
        process.wait()


def linted(workspace, document, *paths) -> list[tuple]:
    """What `pintail lint` says of a document, as an editor counts: from 0, in UTF-16."""
    found = json.loads(workspace.pintail("lint", *paths, "-o", "json").out)
    lines = document.read_text().split("\n")
    told = []
    for problem in found["problems"]:
        if workspace.path(problem["file"]).resolve() == document.resolve():
            before = lines[problem["line"] - 1][: problem["column"] - 1]
            place = (problem["line"] - 1, len(before.encode("utf-16-le")) // 2)
            severity = {"error": 1, "note": 3}[problem["severity"]]
            told.append((*place, problem["rule"], severity, problem["message"], problem["suggestion"]))
    return told


def told(diagnostics: list[dict]) -> list[tuple]:
    assert {diagnostic["source"] for diagnostic in diagnostics} <= {"pintail"}
    return [
        (
            diagnostic["range"]["start"]["line"],
            diagnostic["range"]["start"]["character"],
            diagnostic["code"],
            diagnostic["severity"],
            diagnostic["message"].partition("; did you mean")[0],
            diagnostic["data"]["suggestion"],
        )
        for diagnostic in diagnostics
    ]


def labels(items: list[dict]) -> list[str]:
    return [item["label"] for item in items]


def hovered(answer: dict | None) -> str:
    return answer["contents"]["value"] if answer else ""


def defined(answer: dict) -> tuple[str, str]:
    """File and text of a definition."""
    start, end = answer["range"]["start"], answer["range"]["end"]
    path = answer["uri"].removeprefix("file://")
    line = open(path).read().split("\n")[start["line"]]
    return path.rpartition("/")[2], line[start["character"] : end["character"]]


@pytest.mark.parametrize("name", NAMES)
def test_every_manifest_of_an_example_is_right_in_an_editor(workspace, editor, name):
    folder = workspace.copy_example(name)
    client = editor()
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.sql"), *folder.glob("local/*.yaml"), *folder.glob("tests/*.yaml")]):
        assert [it for it in client.show(path) if it["severity"] == 1] == [], path
    assert client.end() == 0


WRONG = [
    # A wrong column in a block scalar.
    ("sum(quantity)::BIGINT AS pieces", "sum(quantty)::BIGINT AS pieces"),
    # Behind characters that are two units each, and one of two bytes.
    ("SELECT strftime(ordered_at", "SELECT '🦆é' AS duck, strftime(orderd_at"),
    # In a field of YAML.
    ("uses: [orders, report_year]", "uses: [orders, report_yaer]"),
    # No YAML.
    ("  outputs:", "  outputs: ]"),
]


@pytest.mark.parametrize(("right", "wrong"), WRONG)
def test_diagnostics_are_those_of_lint_and_go_when_they_are_mended(workspace, editor, right, wrong):
    folder = workspace.copy_example("monthly-report")
    document = folder / "workflow.yaml"
    text = document.read_text()
    assert right in text
    client = editor()
    assert client.show(document) == []
    unsaved = told(client.show(document, text.replace(right, wrong, 1)))
    assert document.read_text() == text
    document.write_text(text.replace(right, wrong, 1))
    assert unsaved == linted(workspace, document, folder, folder / "local") != []
    assert client.show(document, text) == []
    assert client.end() == 0


def test_a_column_of_a_sql_file_is_found_unsaved_and_the_range_is_its_name(workspace, editor):
    folder = workspace.copy_example("retail-summary")
    document = folder / "trends.sql"
    text = document.read_text()
    client = editor()
    assert client.show(document) == []
    wrong = text.replace("Quantity", "Quantty", 1)
    (diagnostic,) = client.show(document, wrong)
    start, end = diagnostic["range"]["start"], diagnostic["range"]["end"]
    assert wrong.split("\n")[start["line"]][start["character"] : end["character"]] == "Quantty"
    assert diagnostic["code"] == "unknown-column" and "did you mean `Quantity`?" in diagnostic["message"]
    document.write_text(wrong)
    assert told([diagnostic]) == linted(workspace, document, folder, folder / "local")


def test_a_burst_of_changes_ends_with_the_diagnostics_of_the_last(workspace, editor):
    folder = workspace.copy_example("monthly-report")
    document = folder / "workflow.yaml"
    text = document.read_text()
    client = editor()
    client.show(document)
    uri = document.as_uri()
    for version in range(2, 60):
        change = [{"text": text + "\n" * version + "wrong"}]
        client.notify("textDocument/didChange", textDocument={"uri": uri, "version": version}, contentChanges=change)
    client.notify("textDocument/didChange", textDocument={"uri": uri, "version": 60}, contentChanges=[{"text": text}])
    assert client.diagnostics(document, 60) == []


def test_a_document_that_is_closed_has_no_problems(workspace, editor):
    document = workspace.write("a/workflow.yaml", "apiVersion: pintail.dev/v1alpha1\nkind: Workfow\n")
    client = editor()
    assert [it["code"] for it in client.show(document)] == ["unknown-kind"]
    client.notify("textDocument/didClose", textDocument={"uri": document.as_uri()})
    assert client.diagnostics(document, None) == []


def test_files_of_other_programs_have_no_problems(workspace, editor):
    client = editor()
    chart = workspace.write("chart/templates/pod.yaml", "{{ if .Values.x }}\nkind: Pod\n{{ end }}\n")
    assert client.show(chart) == []
    notes = workspace.write("notes/readme.md", "# Notes\n")
    client.notify("textDocument/didOpen", textDocument={"uri": notes.as_uri(), "version": 1, "languageId": "markdown", "text": "x"})
    assert client.at("hover", notes, "x", "|x") is None
    assert client.end() == 0


def test_folders_that_are_named_are_checked_together(workspace, editor):
    folder = workspace.copy_example("retail-summary")
    (folder / "local").rename(workspace.path("connections"))
    document = folder / "retail-summary.yaml"
    assert {it["code"] for it in editor().show(document)} == {"unknown-connection"}
    assert editor("examples/retail-summary", "connections").show(document) == []


def test_a_file_that_cannot_be_read_is_said_and_the_server_goes_on(workspace, editor):
    folder = workspace.copy_example("retail-summary")
    document = folder / "retail-summary.yaml"
    client = editor()
    assert client.show(document) == []
    (folder / "trends.sql").rename(folder / "trends.txt")
    text = document.read_text()
    (diagnostic,) = client.show(document, text + "\n")
    assert "cannot read" in diagnostic["message"] and "trends.sql" in diagnostic["message"]
    (folder / "trends.txt").rename(folder / "trends.sql")
    client.notify("textDocument/didSave", textDocument={"uri": document.as_uri()})
    assert client.diagnostics(document, 2) == []


def test_hover_shows_columns_and_their_types(workspace, editor):
    folder = workspace.copy_example("monthly-report")
    document = folder / "workflow.yaml"
    text = document.read_text()
    client = editor()
    client.show(document)

    def hover(mark: str) -> str:
        return hovered(client.at("hover", document, text, mark))

    assert "order_id VARCHAR" in hover("FROM ord|ers") and "unit_price DECIMAL(10,2)" in hover("FROM ord|ers")
    # A result of a task, in SQL and where it is used.
    for mark in ("FROM vol|ume ORDER", "uses: [vol|ume]", "- name: vol|ume\n      uses: [orders"):
        assert "volume(\n  month VARCHAR,\n" in hover(mark) and "pieces BIGINT" in hover(mark), mark
    assert "quantity BIGINT" in hover("sum(quan|tity)::") and "of `orders`" in hover("sum(quan|tity)::")
    assert "revenue DECIMAL(38,2)" in hover("ORDER BY rev|enue DESC, month LIMIT")
    assert "$report_year BIGINT" in hover("= $report|_year")
    assert "$(tasks.vol|ume)" in text.replace("value: $(tasks.volume)", "value: $(tasks.vol|ume)")
    assert "month VARCHAR" in hover("value: $(tasks.vol|ume)")
    # What a field is for, as the reference has it.
    assert "Inputs and tasks that the task uses" in hover("us|es: [orders")
    assert hover("# An order| counts") == ""


def test_completion_knows_columns_of_sql_that_cannot_be_parsed(workspace, editor):
    folder = workspace.copy_example("retail-summary")
    document = folder / "trends.sql"
    client = editor()
    client.show(document)

    def complete(text: str) -> list[dict]:
        plain = text.replace("|", "", 1)
        client.show(document, plain)
        return client.at("completion", document, plain, text)

    items = complete("SELECT (StockCode, | FROM recent r WHERE")
    assert labels(items)[:4] == ["Invoice", "StockCode", "Description", "Quantity"]
    assert items[3]["detail"] == "BIGINT of recent"
    assert {"StockCode", "Quantity"} <= set(labels(complete("SELECT r.| FROM recent r WHERE (")))
    tables = labels(complete("SELECT * FROM |"))
    assert "recent" in tables and "e_commerce.year_09_10" in tables and "StockCode" not in tables
    assert labels(complete("SELECT * FROM e_commerce.|")) == ["year_09_10"]
    assert "latest" in labels(complete("WITH latest AS (SELECT 1) SELECT * FROM |"))
    (parameter,) = complete("SELECT 'é🦆', (a FROM recent WHERE Quantity > $mi|")
    assert parameter["label"] == "$min_quantity"
    edit = parameter["textEdit"]
    assert edit["newText"] == "$min_quantity" and edit["range"]["end"]["character"] - edit["range"]["start"]["character"] == 3
    assert complete("SELECT 'St|' FROM recent") == []


def test_completion_knows_names_in_manifests(workspace, editor):
    folder = workspace.copy_example("monthly-report")
    document = folder / "workflow.yaml"
    text = document.read_text()
    client = editor()
    client.show(document)

    def complete(right: str, marked: str, document=document) -> list[str]:
        plain = document.read_text().replace(right, marked.replace("|", "", 1), 1)
        client.show(document, plain)
        return labels(client.at("completion", document, plain, marked))

    assert complete("          FROM orders\n", "          FROM ord| (\n")[0] == "orders"
    assert {"orders", "report_year", "volume", "best"} <= set(complete("uses: [volume]\n      duckdb", "uses: [vol|]\n      duckdb"))
    # Not even YAML.
    assert "volume" in complete("uses: [volume]\n      duckdb", "uses: [volume, |\n      duckdb")
    assert "mail" in complete("connection: mail", "connection: m|")
    assert "volume" in complete("value: $(tasks.volume)", "value: $(tasks.|)")
    plan = folder / "launch-plan.yaml"
    client.show(plan)
    assert complete("    name: monthly-report\n  triggers", "    name: mon|\n  triggers", plan) == ["monthly-report"]
    assert document.read_text() == text


def test_definitions_are_found_across_files(workspace, editor):
    folder = workspace.copy_example("retail-summary")
    manifest, sql, plan = folder / "retail-summary.yaml", folder / "trends.sql", folder / "launch-plan.yaml"
    client = editor()
    for path in (manifest, sql, plan):
        client.show(path)

    def define(path, mark: str) -> tuple[str, str]:
        return defined(client.at("definition", path, path.read_text(), mark))

    assert define(sql, "e_commerce.year|_09_10") == ("e-commerce.yaml", "year_09_10")
    assert define(sql, "|e_commerce.year_09_10") == ("e-commerce.yaml", "e")
    assert define(sql, "FROM rec|ent") == ("retail-summary.yaml", "recent")
    assert define(sql, "$min|_quantity") == ("retail-summary.yaml", "min_quantity")
    assert define(manifest, "artifact: |recent_ecommerce_data") == ("recent-orders.yaml", "recent_ecommerce_data")
    assert define(manifest, "reads: [e|_commerce]") == ("e-commerce.yaml", "e")
    assert client.at("definition", manifest, manifest.read_text(), "key: tr|ends.sql")["uri"] == sql.as_uri()
    assert define(plan, "name: ret|ail-summary\n  ")[0] == "retail-summary.yaml"


def test_malformed_input_is_answered_and_the_server_goes_on(workspace, editor):
    document = workspace.write("a/workflow.yaml", "apiVersion: pintail.dev/v1alpha1\nkind: Workflow\n")
    client = editor()
    client.send(b"{ this is no JSON")
    assert client.answer(None)["error"]["code"] == -32700
    client.process.stdin.write(b"Accept: everything\r\n\r\n")
    client.process.stdin.flush()
    assert client.answer(None)["error"]["code"] == -32700
    for body, code in [
        ({"id": 101, "method": "textDocument/unheardOf"}, -32601),
        ({"id": 102, "method": "textDocument/hover", "params": {"position": "here"}}, -32602),
        ({"id": 103, "method": "initialize", "params": {}}, -32600),
    ]:
        client.send(json.dumps(body).encode())
        assert client.answer(body["id"])["error"]["code"] == code
    client.notify("textDocument/didOpen", textDocument=7)
    client.notify("textDocument/unheardOf")
    assert client.at("hover", document, "x", "|x") is None
    assert client.show(document) != []
    assert client.end() == 0


def test_the_end_of_the_input_ends_the_server_and_exit_alone_is_a_failure(workspace, editor):
    client = editor()
    client.process.stdin.close()
    assert client.process.wait(timeout=30) == 0
    client = editor()
    client.notify("exit")
    assert client.process.wait(timeout=30) == 1

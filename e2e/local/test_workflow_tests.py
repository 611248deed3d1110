"""`pintail test`: every example has tests that pass, and that fail with what is wrong when its SQL is broken."""

import json
import xml.etree.ElementTree
from dataclasses import dataclass

import pytest

from workspace import EXAMPLES, Finished, Workspace

NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/generate.py"))


def pintail_test(workspace: Workspace, example: str, *more: str) -> Finished:
    folder = f"examples/{example}"
    return workspace.pintail("test", folder, f"{folder}/local", f"{folder}/tests", *more)


@pytest.mark.parametrize("example", NAMES)
def test_every_example_passes_its_tests(workspace, example, mailbox):
    workspace.copy_example(example)
    finished = pintail_test(workspace, example, "-o", "json")
    assert finished.code == 0, finished
    tested = json.loads(finished.out)["tests"]
    assert tested and all(test["passed"] for test in tested)
    workflows = {line.split()[-1] for line in workspace.command(["grep", "-rh", "^  name:", *manifests(workspace, example)]).out.splitlines()}
    assert {test["workflow"] for test in tested} == workflows
    # Nothing was sent, and nothing was written but into temporary folders, which are gone.
    assert mailbox.mails == []
    assert not workspace.store.exists()
    assert not workspace.path("examples", example, "out").exists()
    assert list(workspace.path("temporary").iterdir()) == []


def manifests(workspace: Workspace, example: str) -> list[str]:
    """Files of the example's workflows."""
    files = workspace.path("examples", example).glob("*.yaml")
    return [str(path) for path in sorted(files) if "kind: Workflow" in path.read_text()]


@dataclass
class Break:
    """A slip in the SQL of an example, and what the failing test must say."""

    example: str
    file: str
    before: str
    after: str
    says: list[str]

    def __str__(self) -> str:
        return f"{self.example}: {self.before.strip().splitlines()[0]}"


HELLO, ANOMALY, MONTHLY = ("hello", "workflow.yaml"), ("anomaly-check", "workflow.yaml"), ("monthly-report", "workflow.yaml")
MASK, LOAD, JOIN = ("mask-personal-data", "workflow.yaml"), ("incremental-load", "workflow.yaml"), ("join-and-export", "workflow.yaml")
TRENDS, ELASTICITY, SEGMENTS = (("retail-summary", f"{name}.sql") for name in ("trends", "elasticity", "segments"))
RECENT = ("retail-summary", "recent-orders.yaml")
EVENTS = ("event-driven", "workflow.yaml")

BREAKS = [
    # A filter that is missing or wrong, an aggregate, a column or a join: three at least of each example.
    Break(*HELLO, "WHERE dropoff_at IS NOT NULL", "", ["rides  expected 2, found 3"]),
    Break(*HELLO, "round(avg(", "round(max(", ["{ rides: 2 }", "mean_minutes  expected 15.25, found 20.5"]),
    Break(*HELLO, "count(*) AS rides,", "", ["task `trip_time` gives no column `rides`; it gives `mean_minutes`"]),
    Break(
        *ANOMALY,
        "total IS DISTINCT FROM round(unit_price * quantity, 2)",
        "total <> round(unit_price * quantity, 2)",
        ["task `anomalies`: 3 rows expected, 2 found; 1 is missing", '- { file: "a.csv", order_id: "W5"', "total: null"],
    ),
    Break(
        *ANOMALY,
        "string_agg(DISTINCT file, ', ' ORDER BY file)",
        "min(file)",
        ["task `alert` sends another message", 'expected "3 wrong totals in a.csv, b.csv"', 'found    "3 wrong totals in a.csv"'],
    ),
    Break(*ANOMALY, "SELECT file, order_id,", "SELECT order_id,", ["task `anomalies` gives no column `file`; it gives `order_id`"]),
    Break(
        *MONTHLY,
        "year(ordered_at) = $report_year",
        "year(ordered_at) >= $report_year",
        ["task `volume`: 2 rows expected, 3 found; 1 is unexpected", '+ { month: "2025-01", orders: 1, pieces: 9'],
    ),
    Break(
        *MONTHLY,
        "sum(quantity * unit_price) AS revenue",
        "sum(unit_price) AS revenue",
        ["revenue  expected 28.00, found 12.00", "expected row 1"],
    ),
    Break(*MONTHLY, "count(*) AS orders,", "", ["task `volume` gives no column `orders`"]),
    Break(*MASK, "WHERE customer_key IS NOT NULL", "", ["1 is unexpected", "+ { customer_key: null, orders: 1, spent: 1.50 }"]),
    Break(*MASK, "sum(total) AS spent", "max(total) AS spent", ["spent  expected 8.50, found 5.50"]),
    Break(*MASK, "lower(trim(customer_email)) AS email", "trim(customer_email) AS email", ["customer_email_hash  expected"]),
    Break(*MASK, "product, quantity, total,", "product, total,", ["quantity  expected 2, found null"]),
    Break(*LOAD, "FROM trips\n", "FROM trips WHERE passenger_count > 1\n", ["inserted", "expected 3", "found    1", "2 are missing"]),
    Break(*LOAD, "sum(total_amount)", "sum(fare_amount)", ["revenue  expected 33.00, found 28.00"]),
    Break(*LOAD, "coalesce(DOLocationID::VARCHAR, ''), ", "", ["task `taxi_trips`", "1 is missing", "dropoff_zone: 8"]),
    Break(*EVENTS, "LEFT JOIN", "JOIN", ["task `checked`: 3 rows expected, 2 found; 1 is missing", 'order_id: "O3"']),
    Break(*EVENTS, "unit_price * quantity)::", "unit_price)::", ["expected  expected 11.50, found 1.15"]),
    Break(*EVENTS, "quantity, total,", "total,", ["task `checked` gives no column `quantity`"]),
    Break(*JOIN, "LEFT JOIN", "JOIN", ["4 rows expected, 3 found; 1 is missing", "- { order_id: 12,"]),
    Break(*JOIN, "100 - coalesce(per_cent, 0)", "100 - per_cent", ["total  expected 250.00, found null"]),
    Break(*JOIN, "p.title, p.brand", "p.brand", ["task `detailed` gives no column `title`"]),
    Break(*TRENDS, "  WHERE Quantity > $min_quantity AND Price > 0\n", "  WHERE Quantity > $min_quantity\n", ["historical"]),
    Break(*TRENDS, "avg(Quantity) AS pieces", "max(Quantity) AS pieces", ["historical  expected 6, found 8"]),
    Break(*TRENDS, "FROM history JOIN latest", "FROM history RIGHT JOIN latest", ['+ { stock_code: "C"', "1 is unexpected"]),
    Break(*TRENDS, "       latest.description,\n", "", ["task `trends` gives no column `description`"]),
    Break(*ELASTICITY, "HAVING max(price) > min(price)", "", ["task `elasticity`", '+ { stock_code: "B", months: 2 }']),
    Break(*SEGMENTS, "count(DISTINCT Invoice)", "count(*)", ["task `segments`", "orders  expected 4, found 5"]),
    Break(*RECENT, "SELECT DISTINCT *", "SELECT *", ["task `cleaned`: 3 rows expected, 4 found; 1 is unexpected"]),
    Break(*RECENT, " AND NOT starts_with(Invoice, 'C')", "", ['+ { Invoice: "C536367"']),
    Break(*RECENT, "ORDER BY InvoiceDate, Invoice, StockCode", "ORDER BY Price, InvoiceDate", ["in another order"]),
]


def test_each_example_is_broken_in_three_ways_at_least():
    assert all(sum(broken.example == example for broken in BREAKS) >= 3 for example in NAMES)


@pytest.mark.parametrize("broken", BREAKS, ids=str)
def test_broken_sql_fails_with_what_is_different(workspace, broken):
    file = workspace.copy_example(broken.example) / broken.file
    text = file.read_text()
    assert broken.before in text
    file.write_text(text.replace(broken.before, broken.after, 1))
    finished = pintail_test(workspace, broken.example)
    assert finished.code == 1, finished
    assert "FAIL" in finished.out and f"--> examples/{broken.example}/tests/" in finished.out, finished
    for line in broken.says:
        assert line in finished.out, finished


WORKFLOW = """
apiVersion: pintail.dev/v1alpha1
kind: Workflow
metadata: { name: sales }
spec:
  inputs:
    - { name: lines, type: table, columns: [ { name: code, type: VARCHAR, nullable: false }, { name: pieces, type: BIGINT } ] }
    - { name: least, type: BIGINT, default: 0 }
  tasks:
    - name: sums
      uses: [lines, least]
      reads: [shop]
      duckdb:
        query: |
          SELECT code, sum(pieces)::BIGINT AS pieces, current_date AS day
          FROM lines SEMI JOIN shop.products USING (code) WHERE pieces > $least GROUP BY ALL
    - name: tell
      uses: [sums]
      when: $(tasks.sums.rows > 0)
      notify: { connection: chat, subject: "$(tasks.sums.rows) on $(execution.startTime)" }
    - name: unlucky
      uses: [sums]
      duckdb: { query: "SELECT error('no luck') FROM sums" }
"""

CONNECTIONS = """
apiVersion: pintail.dev/v1alpha1
kind: Connection
metadata: { name: shop }
spec:
  duckdb: { path: nowhere/shop.duckdb }
  tables: [ { name: products, columns: [ { name: code, type: VARCHAR } ] } ]
---
apiVersion: pintail.dev/v1alpha1
kind: Connection
metadata: { name: chat }
spec:
  webhook: { urlFrom: { secretKeyRef: { name: chat, key: url } } }
"""

TESTS = """
apiVersion: pintail.dev/v1alpha1
kind: WorkflowTest
metadata: { name: sums-are-right }
spec:
  workflowRef: { name: sales }
  now: "2024-02-29T23:59:59Z"
  only: [tell]
  given:
    inputs: { lines: { rows: [ { code: A, pieces: 2 }, { code: A, pieces: 3 }, { code: B, pieces: 9 } ] } }
    tables: { shop.products: { rows: [ { code: A } ] } }
  expect:
    - { task: sums, rows: [ { code: A, pieces: 5, day: "2024-02-29" } ] }
    - { task: tell, sent: { subject: "1 on 2024-02-29T23:59:59Z" } }
---
apiVersion: pintail.dev/v1alpha1
kind: WorkflowTest
metadata: { name: luck-is-needed }
spec:
  workflowRef: { name: sales }
  given:
    inputs: { lines: { rows: [ { code: A, pieces: 2 } ] }, least: 1 }
    tables: { shop.products: { rows: [ { code: A } ] } }
  expect:
    - { task: sums, rows: [ { code: A, pieces: 2, day: "2000-01-01" } ] }
    - { task: unlucky, state: Failed }
"""


@pytest.fixture
def sales(workspace):
    workspace.write("sales.yaml", WORKFLOW)
    workspace.write("connections.yaml", CONNECTIONS)
    workspace.write("tests.yaml", TESTS)
    return workspace


FILES = ("sales.yaml", "connections.yaml", "tests.yaml")


def test_the_clock_stands_still_and_a_failure_may_be_expected(sales):
    finished = sales.good("test", *FILES)
    assert [line.split()[:2] for line in finished.out.splitlines()] == [["ok", "sums-are-right"], ["ok", "luck-is-needed"]]
    assert finished.err.startswith("2 tests passed (")


def test_tests_are_chosen_by_name(sales):
    assert json.loads(sales.good("test", *FILES, "--name", "luck", "-o", "json").out)["tests"][0]["name"] == "luck-is-needed"
    finished = sales.pintail("test", *FILES, "--name", "unheard")
    assert finished.code == 2 and "there are: sums-are-right, luck-is-needed" in finished.err, finished
    assert sales.pintail("test", "sales.yaml", "connections.yaml").code == 2


def test_a_difference_is_told_to_people_programs_and_build_servers(sales):
    sales.write("tests.yaml", TESTS.replace("pieces: 5", "pieces: 6").replace("1 on 2024", "2 on 2024"))
    finished = sales.pintail("test", *FILES, "--junit", "report.xml")
    assert finished.code == 1
    assert "--> tests.yaml:13:21 (spec.expect[0].rows)" in finished.out, finished
    assert '~ { code: "A", day: "2024-02-29" }   expected row 1\n          pieces  expected 6, found 5' in finished.out
    assert finished.err.startswith("2 tests: 1 passed, 1 failed ("), finished

    suite = xml.etree.ElementTree.parse(sales.path("report.xml")).getroot().find("testsuite")
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == ("sales", "2", "1")
    wrong, right = suite.findall("testcase")
    assert (right.get("name"), right.find("failure")) == ("luck-is-needed", None)
    assert len(wrong.findall("failure")) == 2 and "pieces  expected 6, found 5" in wrong.find("failure").text
    assert sales.pintail("test", *FILES, "-o", "junit").out.startswith("<?xml")

    sums, tell = json.loads(sales.pintail("test", *FILES, "-o", "json").out)["tests"][0]["failures"]
    assert (sums["line"], sums["path"]) == (13, "spec.expect[0].rows")
    assert sums["details"] == [
        {
            "kind": "Differs",
            "expectedRow": 1,
            "row": {"code": "A", "day": "2024-02-29"},
            "values": [{"name": "pieces", "expected": "6", "found": "5"}],
        }
    ]
    assert tell["details"][0]["values"][0]["found"] == "1 on 2024-02-29T23:59:59Z"


def test_a_task_that_fails_where_nothing_expects_it_fails_the_test(sales):
    sales.write("tests.yaml", TESTS.replace("    - { task: unlucky, state: Failed }\n", ""))
    finished = sales.pintail("test", *FILES, "--name", "luck")
    assert finished.code == 1 and "task `unlucky` failed: InvalidInput" in finished.out, finished


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("workflowRef: { name: sales }", "workflowRef: { name: sale }", "tests.yaml:6:24: spec.workflowRef.name: there is no Workflow"),
        ("only: [tell]", "only: [tel]", "tests.yaml:8:10: spec.only[0]: workflow `sales` has no task `tel`; did you mean `tell`?"),
        ("{ task: sums, rows", "{ task: sum, rows", "tests.yaml:13:15: spec.expect[0].task: workflow `sales` has no task `sum`; did you mean `sums`?"),
        ("{ code: A, pieces: 2 }, {", "{ code: A, piece: 2 }, {", "the contract has no column `piece`; did you mean `pieces`?"),
        ("{ code: B, pieces: 9 }", "{ code: B, pieces: many }", "tests.yaml:10:"),
        ("{ code: B, pieces: 9 }", "{ pieces: 9 }", "column `code` is not nullable and has no value in this row"),
        ("shop.products: { rows: [ { code: A } ] }", "shop.product: { rows: [ { code: A } ] }", "lists no table `product`; it lists `products`"),
        ("shop.products: { rows", "shops.products: { rows", "no task of workflow `sales` reads or writes a database `shops`"),
        ("shop.products: { rows: [ { code: A } ] }", "shop.products: { rows: [ { cod: A } ] }", "did you mean `code`?"),
        ("inputs: { lines: { rows: [ { code: A, pieces: 2 }, { code: A, pieces: 3 }, { code: B, pieces: 9 } ] } }", "inputs: {}", "`sums` reads the table `lines`, and the test does not give it"),
        ("lines: { rows: [ { code: A, pieces: 2 }, ", "lines: { connection: shop, path: x.csv }, line: { rows: [ ", "a test reads nothing outside"),
        ("pieces: 5, day", "piecs: 5, day", "tests.yaml:13:47: spec.expect[0].rows[0].piecs: the result of `sums` has no column `piecs`"),
        ('day: "2024-02-29" }', 'day: "leap day" }', "the text `leap day` is no DATE"),
        ("{ task: tell, sent: {", "{ task: sums, sent: {", "task `sums` gives rows, so expect `rows` of it"),
        ('now: "2024-02-29T23:59:59Z"', 'now: "yesterday"', "tests.yaml:7:8: spec.now: `yesterday` is no point in time"),
        ("expect:\n", "expects:\n", "did you mean `expect`?"),
        ("task: tell, sent", "task: unlucky, sent", "task `unlucky` does not run in this test"),
    ],
)
def test_fixtures_that_cannot_be_right_are_refused_by_lint_at_their_place(sales, before, after, says):
    assert before in TESTS
    sales.write("tests.yaml", TESTS.replace(before, after, 1))
    finished = sales.pintail("lint", *FILES, "-o", "concise")
    assert finished.code == 1 and says in finished.out, finished
    assert all(line.startswith("tests.yaml:") for line in finished.out.splitlines()), finished


def test_right_tests_have_no_problems(sales):
    sales.good("lint", *FILES)


@pytest.mark.parametrize("example", NAMES)
def test_lint_finds_nothing_wrong_with_the_tests_of_the_examples(workspace, example):
    workspace.copy_example(example)
    folder = f"examples/{example}"
    workspace.good("lint", folder, f"{folder}/local", f"{folder}/tests")

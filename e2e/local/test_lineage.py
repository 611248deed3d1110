"""Where columns come from, what may leave, and what readers of a dataset may count on."""

import json
import re

import duckdb
import pytest
import yaml

from test_sql_corpus import TABLES, entries, manifest, right_tasks, topics
from workspace import EXAMPLES, ROOT

# Reviewed by hand. `pintail lineage examples/<name> examples/<name>/local` writes them.
EXPECTED = ROOT / "e2e" / "local" / "lineage"
NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/generate.py"))


@pytest.mark.parametrize("name", NAMES)
def test_the_lineage_of_every_example_is_the_reviewed_one(workspace, name):
    folder = workspace.copy_example(name)
    found = workspace.good("lineage", folder, folder / "local")
    assert found.out == (EXPECTED / f"{name}.txt").read_text()


# The few that are not followed, and why: what reads them counts as coming from everything.
NOT_FOLLOWED = {
    "it reads a variable of the session",
    "a statement of `setup` changes its table in a way that is not followed",
}


@pytest.mark.parametrize("topic", topics("right"))
def test_right_queries_are_followed(workspace, topic):
    workspace.write("workflow.yaml", manifest(topic, right_tasks(topic)))
    (workflow,) = json.loads(workspace.good("lineage", "workflow.yaml", "-o", "json").out)["workflows"]
    reasons = {column["unknown"] for result in workflow["results"] for column in result["columns"]}
    assert reasons - {None} <= NOT_FOLLOWED


def base_columns(step: dict) -> set[tuple[str, str]]:
    """The columns of tables that a plan reads."""
    found = set()
    if step["type"] == "LOGICAL_GET" and step["name"] == "seq_scan":
        names = step["names"]
        indexes = [column["index"] for column in step["column_indexes"]]
        found = {(step["function_data"]["table"], names[index]) for index in indexes if index < len(names)}
    return found.union(*(base_columns(child) for child in step["children"]))


def corpus_database() -> duckdb.DuckDBPyConnection:
    """The tables of the corpus as real ones, with a row, so that no plan is empty."""
    database = duckdb.connect()
    for entry in TABLES["inputs"]:
        if entry["type"] == "table":
            columns = ", ".join(f'{column["name"]} {column["type"]}' for column in entry["columns"])
            database.execute(f"CREATE TABLE {entry['name']} ({columns})")
            database.execute(f"INSERT INTO {entry['name']} SELECT {', '.join(['NULL'] * len(entry['columns']))}")
    return database


def needed(database, query: str, count: int, expression: str) -> set[tuple[str, str]]:
    """What DuckDB reads, once it has left out all that an expression of a query's columns does not need. It cannot write
    every optimized plan down."""
    names = ", ".join(f"c{index}" for index in range(count))
    text = f"SELECT {expression} FROM (\n{query.rstrip().rstrip(';')}\n) AS q({names})"
    (plan,) = database.execute("SELECT json_serialize_plan(?::VARCHAR, optimize := true)", [text]).fetchone()
    plan = json.loads(plan or '{"error": true}')
    return set() if plan["error"] else base_columns(plan["plans"][0])


@pytest.mark.parametrize("topic", topics("right"))
def test_what_duckdb_reads_for_a_column_is_told_of_it(workspace, topic):
    """Another way to the same: DuckDB's optimizer against the plan before it."""
    workspace.write("workflow.yaml", manifest(topic, right_tasks(topic)))
    (workflow,) = json.loads(workspace.good("lineage", "workflow.yaml", "-o", "json").out)["workflows"]
    queries = [entry for entry in entries("right", topic) if isinstance(entry, str)]
    values = {entry["name"]: entry.get("default") for entry in TABLES["inputs"] if entry["type"] != "table"}
    types = {entry["name"]: entry["type"] for entry in TABLES["inputs"]}
    database = corpus_database()
    for result in workflow["results"]:
        if not re.fullmatch(r"q\d+", result["output"] or ""):
            continue
        query = queries[int(result["output"][1:])]
        for name, value in values.items():
            literal = "NULL" if value is None else json.dumps(value).replace('"', "'")
            query = re.sub(rf"\${name}\b", f"CAST({literal} AS {types[name]})", query)
        rows = {(source["input"], source["column"]) for source in result["rows"]}
        count = len(result["columns"])
        # What is read for no column at all is not left out for other reasons.
        always = needed(database, query, count, "42")
        for position, column in enumerate(result["columns"]):
            told = {(source["input"], source["column"]) for source in column["sources"]}
            assert needed(database, query, count, f"c{position}") - always <= told | rows, (query, column)


def test_openlineage_names_datasets_and_the_ways_of_each_column(workspace):
    folder = workspace.copy_example("mask-personal-data")
    (line,) = workspace.good("lineage", folder, folder / "bucket", "-o", "openlineage").out.splitlines()
    event = json.loads(line)
    assert event["job"] == {"namespace": "pintail", "name": "mask-personal-data"}
    assert {(it["namespace"], it["name"]) for it in event["inputs"]} == {
        (f"s3://{workspace.bucket}", "mask-personal-data/orders.csv")
    }
    orders, customers = event["outputs"]
    assert orders["namespace"].startswith("duckdb://") and orders["name"] == "orders"
    facet = orders["facets"]["columnLineage"]
    assert facet["_schemaURL"].endswith("ColumnLineageDatasetFacet.json#/$defs/ColumnLineageDatasetFacet")
    (field,) = facet["fields"]["customer_key"]["inputFields"]
    assert field["field"] == "customer_email"
    assert field["transformations"] == [
        {"type": "DIRECT", "subtype": "TRANSFORMATION", "description": "", "masking": True}
    ]
    decides = customers["facets"]["columnLineage"]["dataset"]
    assert [it["transformations"][0]["subtype"] for it in decides] == ["FILTER", "SORT"]


@pytest.mark.parametrize(
    ("masked", "clear", "column"),
    [
        ("md5(name) AS customer_name_hash", "name AS customer_name_hash", "customer_name_hash"),
        ("md5(email) AS customer_email_hash", "upper(email) AS customer_email_hash", "customer_email_hash"),
        ("sha256($keys_pepper || '|' || email)", "($keys_pepper || '|' || email)", "customer_key"),
    ],
)
def test_mask_personal_data_without_its_masking_is_refused(workspace, masked, clear, column):
    folder = workspace.copy_example("mask-personal-data")
    path = folder / "workflow.yaml"
    text = path.read_text()
    assert text.count(masked) == 1
    path.write_text(text.replace(masked, clear))
    linted = workspace.pintail("lint", folder, folder / "local")
    assert linted.code == 1, linted
    source = "customer_name" if "name_hash" in column else "customer_email"
    assert f"column `{column}` of the load into `warehouse.orders` comes from `orders.{source}`, which is sensitive" in linted.out
    line = path.read_text()[: path.read_text().index("into: warehouse.orders")].count("\n") + 1
    assert re.search(rf"error\[sensitive-column\].*\n  --> .*workflow.yaml:{line}:17 ", linted.out), linted
    run = workspace.pintail("run", folder, folder / "local")
    assert run.code == 1 and "sensitive-column" in run.err, run
    assert not (folder / "out").exists() and workspace.good("list", "-o", "name").out == ""
    # Whoever means it says so, where it leaves.
    path.write_text(path.read_text().replace("mode: Upsert\n", f"mode: Upsert\n          releases: [{column}]\n"))
    workspace.good("lint", folder, folder / "local")


PEOPLE = """
apiVersion: pintail.dev/v1alpha1
kind: Workflow
metadata:
  name: people
spec:
  inputs:
    - name: people
      type: table
      columns:
        - { name: id, type: BIGINT }
        - { name: email, type: VARCHAR, sensitive: true }
      default: { rows: [ { id: 1, email: a@mail.example } ] }
  tasks:
    - name: all_of_them
      uses: [people]
      duckdb: { query: "SELECT id, lower(email) AS contact FROM people WHERE email IS NOT NULL" }
    - name: one
      uses: [all_of_them]
      duckdb: { kind: Values, query: "SELECT max(contact) AS contact, count(contact) AS number FROM all_of_them" }
"""
PLACES = """
apiVersion: pintail.dev/v1alpha1
kind: Connection
metadata: { name: out }
spec: { folder: { path: out } }
---
apiVersion: pintail.dev/v1alpha1
kind: Connection
metadata: { name: mail }
spec: { smtp: { host: 127.0.0.1, from: a@mail.example } }
---
apiVersion: pintail.dev/v1alpha1
kind: Connection
metadata: { name: lake }
spec:
  duckdb: { path: lake.duckdb }
  tables: [ { name: kept, columns: [ { name: phone, type: VARCHAR, sensitive: true }, { name: id, type: BIGINT } ] } ]
"""
EXITS = {
    "export": "    - { name: x, uses: [all_of_them], export: { table: all_of_them, to: { connection: out, path: a.csv }%s } }\n",
    "input": "    - { name: x, uses: [people], export: { table: people, to: { connection: out, path: a.csv }%s } }\n",
    "load": "    - { name: x, uses: [all_of_them], writes: [lake], duckdb: { query: FROM all_of_them, load: { into: lake.t, mode: Append%s } } }\n",
    "report": "    - { name: x, uses: [all_of_them], report: { title: All, tables: [ { table: all_of_them } ]%s } }\n",
    "chart": "    - { name: x, uses: [all_of_them], report: { title: All, charts: [ { table: all_of_them, mark: Bar, xColumn: contact, yColumns: [id] } ]%s } }\n",
    "attachment": "    - { name: x, uses: [all_of_them], notify: { connection: mail, to: [b@mail.example], subject: Hi, attach: [ { table: all_of_them, as: a.csv } ]%s } }\n",
    "message": "    - { name: x, notify: { connection: mail, to: [b@mail.example], subject: '$(tasks.one.contact)'%s } }\n",
    "parameter": "    - { name: z, with: { c: '$(\"to: \" + tasks.one.contact)' }, duckdb: { query: 'SELECT $c AS contact', columns: [ { name: contact, type: VARCHAR } ] } }\n"
    "    - { name: x, uses: [z], export: { table: z, to: { connection: out, path: a.csv }%s } }\n",
    "published": "  outputs:\n    - { name: x, value: $(tasks.all_of_them), publish: { artifact: people_of_ours }%s }\n",
    "scalar": "  outputs:\n    - { name: x, value: $(tasks.one.contact)%s }\n",
}


NIGHTLY = """
---
apiVersion: pintail.dev/v1alpha1
kind: LaunchPlan
metadata: { name: nightly }
spec:
  workflowRef: { name: people }
  triggers: [ { name: night, schedule: { cron: "0 2 * * *" } } ]
"""


@pytest.mark.parametrize("command", [("run",), ("run", "plan/nightly"), ("serve",), ("trigger", "nightly/night")])
def test_nothing_starts_a_run_that_would_let_a_sensitive_column_out(workspace, command):
    workspace.write("w/places.yaml", PLACES)
    workspace.write("w/people.yaml", PEOPLE + EXITS["export"] % "" + NIGHTLY)
    refused = workspace.pintail(*command, "w")
    assert refused.code == 1 and "[sensitive-column]" in refused.err, refused
    assert workspace.good("list", "-o", "name").out == ""


@pytest.mark.parametrize("exit", EXITS)
def test_a_sensitive_column_leaves_by_no_exit_unless_it_is_released(workspace, exit):
    workspace.write("w/places.yaml", PLACES)
    workspace.write("w/people.yaml", PEOPLE + EXITS[exit] % "")
    linted = workspace.pintail("lint", "w", "-o", "concise")
    assert linted.code == 1 and linted.out.count("[sensitive-column]") == 1, linted
    assert "`people.email`, which is sensitive" in linted.out
    released = "email" if exit == "input" else "contact"
    workspace.write("w/people.yaml", PEOPLE + EXITS[exit] % f", releases: [{released}]")
    linted = workspace.pintail("lint", "w")
    assert linted.code == 0, linted
    # A name that does not leave here is most often a slip.
    workspace.write("w/people.yaml", PEOPLE + EXITS[exit] % f", releases: [{released}, contcat]")
    linted = workspace.pintail("lint", "w", "-o", "concise")
    assert linted.code == 1 and "no column `contcat` leaves here" in linted.out, linted


@pytest.mark.parametrize(
    "tasks",
    [
        # Counted, filtered by, and not shown.
        "    - { name: x, notify: { connection: mail, to: [b@mail.example], subject: '$(tasks.one.number) of $(tasks.all_of_them.rows)' } }\n",
        "    - { name: x, uses: [all_of_them], report: { title: All, charts: [ { table: all_of_them, mark: Bar, xColumn: id, yColumns: [id] } ] } }\n",
        # In a result of the run, as every result.
        "  outputs:\n    - { name: x, value: $(tasks.all_of_them) }\n",
    ],
)
def test_what_holds_no_sensitive_value_may_leave(workspace, tasks):
    workspace.write("w/places.yaml", PLACES)
    workspace.write("w/people.yaml", PEOPLE + tasks)
    workspace.good("lint", "w")


def test_columns_of_databases_are_sensitive_and_so_is_what_cannot_be_followed(workspace):
    workspace.write("w/places.yaml", PLACES)
    head = PEOPLE[: PEOPLE.index("    - name: all_of_them")]
    task = "    - {{ name: x, reads: [lake], duckdb: {{ {setup}query: '{query}' }} }}\n"
    leave = "    - { name: z, uses: [x], export: { table: x, to: { connection: out, path: a.csv } } }\n"
    for setup, query, text in [
        ("", "SELECT phone FROM lake.kept", "column `phone` of the export to `out` comes from `lake.kept.phone`, which is sensitive"),
        ("", "SELECT id FROM lake.kept", None),
        (
            "setup: [ SET VARIABLE v = 1 ], ",
            'SELECT getvariable("v") AS v FROM lake.kept'.replace('"', "''"),
            "where column `v` of the export to `out` comes from cannot be known (it reads a variable of the session), so it "
            "counts as coming from `lake.kept.phone`, which is sensitive",
        ),
    ]:
        workspace.write("w/people.yaml", head + task.format(setup=setup, query=query) + leave)
        linted = workspace.pintail("lint", "w", "-o", "concise")
        assert linted.code == (0 if text is None else 1), linted
        assert text is None or text in linted.out, linted


def test_the_installations_masking_functions_are_those_that_count(workspace):
    workspace.write("w/places.yaml", PLACES)
    workspace.write("w/people.yaml", PEOPLE.replace("lower(email)", "hash(email)::VARCHAR") + EXITS["export"] % "")
    assert workspace.pintail("lint", "w").code == 1
    assert workspace.pintail("lint", "w", env={"PINTAIL_MASKING_FUNCTIONS": "sha256, hash"}).code == 0


def test_sensitive_and_contract_stand_only_where_they_mean_something(workspace):
    workspace.write("w/places.yaml", PLACES)
    for old, new, rule in [
        ("kind: Values,", "kind: Values, columns: [ { name: contact, type: VARCHAR, sensitive: true }, { name: number, type: BIGINT } ],", "invalid-contract"),
        ("  tasks:", "  outputs:\n    - { name: o, value: $(tasks.one.number), contract: Break }\n  tasks:", "nothing-uses-it"),
        ("  tasks:", "  outputs:\n    - { name: o, value: $(tasks.all_of_them), releases: [contact] }\n  tasks:", "nothing-uses-it"),
    ]:
        workspace.write("w/people.yaml", PEOPLE.replace(old, new, 1))
        linted = workspace.pintail("lint", "w", "-o", "concise")
        assert f"[{rule}]" in linted.out, linted


PRODUCER = """
apiVersion: pintail.dev/v1alpha1
kind: Workflow
metadata: { name: clean-orders }
spec:
  inputs:
    - name: raw
      type: table
      columns: [ { name: id, type: BIGINT }, { name: city, type: VARCHAR }, { name: total, type: BIGINT } ]
      default: { rows: [] }
  tasks:
    - { name: clean, uses: [raw], duckdb: { query: "SELECT COLUMNS FROM raw" } }
  outputs:
    - { name: clean, value: $(tasks.clean), publish: { artifact: orders_clean }PROMISE }
"""
READERS = """
apiVersion: pintail.dev/v1alpha1
kind: Workflow
metadata: { name: by-city }
spec:
  inputs:
    - name: orders
      type: table
      columns: [ { name: city, type: VARCHAR }, { name: total, type: BIGINT } ]
      default: { artifact: orders_clean }
  tasks:
    - { name: sums, uses: [orders], duckdb: { query: "SELECT city, sum(total) AS total FROM orders GROUP BY ALL" } }
---
apiVersion: pintail.dev/v1alpha1
kind: Workflow
metadata: { name: count-ids }
spec:
  inputs:
    - { name: orders, type: table, default: { artifact: orders_clean } }
  tasks:
    - { name: number, uses: [orders], duckdb: { query: "SELECT count(DISTINCT id) AS number FROM orders" } }
"""


def producer(columns: str, promise: str = "") -> str:
    return PRODUCER.replace("COLUMNS", columns).replace("PROMISE", promise)


def test_lint_refuses_a_published_table_that_its_readers_cannot_take(workspace):
    workspace.write("w/readers.yaml", READERS)
    for columns, text in [
        ("id, city, total, 1 AS more", None),
        ("id, city, total::INTEGER AS total", None),
        ("id, total", "input `orders` of workflow `by-city` reads `city`, and dataset `orders_clean`, which workflow `clean-orders` publishes, has no such column"),
        ("id, city, total::DOUBLE AS total", "reads `total` of dataset `orders_clean`, which workflow `clean-orders` publishes, and it is DOUBLE there and BIGINT here"),
    ]:
        workspace.write("w/producer.yaml", producer(columns))
        linted = workspace.pintail("lint", "w", "-o", "concise")
        assert linted.code == (0 if text is None else 1), linted
        assert text is None or (text in linted.out and "[broken-contract]" in linted.out), linted
    workspace.write("w/producer.yaml", producer("id, total", ", contract: Break"))
    workspace.good("lint", "w")


def test_diff_names_the_readers_that_a_change_breaks(workspace):
    workspace.write("old/readers.yaml", READERS)
    workspace.write("old/producer.yaml", producer("id, city, total"))
    workspace.write("new/producer.yaml", producer("city, total::INTEGER AS total, 1 AS more"))
    workspace.write("new/readers.yaml", READERS)
    # Who has no contract reads what its queries read.
    assert workspace.pintail("diff", "old", "new").out == (
        "orders_clean, published by clean-orders\n"
        "  - id BIGINT  breaks count-ids (input orders)\n"
        "  ~ total BIGINT -> INTEGER\n"
        "  + more INTEGER\n"
    )
    found = workspace.pintail("diff", "old", "new/producer.yaml", "-o", "json")
    assert found.code == 1, found
    (dataset,) = json.loads(found.out)["datasets"]
    assert dataset["refused"] is True
    assert [(it["column"], it["breaks"]) for it in dataset["columns"] if it["breaks"]] == [
        ("id", [{"workflow": "count-ids", "input": "orders"}])
    ]
    workspace.write("new/producer.yaml", producer("city, total::INTEGER AS total", ", contract: Break"))
    assert workspace.pintail("diff", "old", "new").code == 0
    assert workspace.good("diff", "old", "old").out == ""
    workspace.write("new/producer.yaml", producer("id, city, total, 1 AS more"))
    assert workspace.good("diff", "old", "new").out == "orders_clean, published by clean-orders\n  + more INTEGER\n"


def test_schema_pull_writes_the_tables_of_a_database_and_keeps_marks(workspace):
    with duckdb.connect(str(workspace.path("lake.duckdb"))) as database:
        database.execute("CREATE TABLE orders (id BIGINT, email VARCHAR, total DECIMAL(12,2), state ENUM('a', 'b'))")
        database.execute("CREATE SCHEMA sales; CREATE VIEW sales.recent AS SELECT id, total FROM orders")
        database.execute('CREATE TABLE _pintail_loads (execution VARCHAR)')
    text = (
        "# The lake.\napiVersion: pintail.dev/v1alpha1\nkind: Connection\nmetadata: { name: lake }\nspec:\n"
        "  duckdb: { path: lake.duckdb }   # here\n"
        "  tables: [ { name: orders, columns: [ { name: email, type: INTEGER, sensitive: true } ] } ]\n"
    )
    path = workspace.write("lake.yaml", text)
    printed = yaml.safe_load(workspace.good("schema", "pull", "lake", "lake.yaml").out)
    assert path.read_text() == text
    assert printed["tables"][0] == {
        "name": "orders",
        "columns": [
            {"name": "id", "type": "BIGINT"},
            {"name": "email", "type": "VARCHAR", "sensitive": True},
            {"name": "total", "type": "DECIMAL(12,2)"},
            {"name": "state", "type": "VARCHAR"},
        ],
    }
    assert [table["name"] for table in printed["tables"]] == ["orders", "sales.recent"]
    workspace.good("schema", "pull", "lake", "lake.yaml", "--write")
    written = path.read_text()
    assert written.startswith(text[: text.index("  tables:")])
    assert yaml.safe_load(written)["spec"]["tables"] == printed["tables"]
    workspace.good("lint", "lake.yaml")
    for arguments, text in [(("cake", "lake.yaml"), "there is no Connection"), (("lake", "gone.yaml"), "cannot read")]:
        finished = workspace.pintail("schema", "pull", *arguments)
        assert finished.code == 2 and text in finished.err, finished


def test_schema_pull_asks_postgresql_too(workspace, postgres):
    workspace.write(
        "shop.yaml",
        "apiVersion: pintail.dev/v1alpha1\nkind: Connection\nmetadata: { name: shop }\nspec:\n  postgres:\n"
        f"    host: 127.0.0.1\n    port: {postgres.port}\n    database: pulled\n    user: {postgres.user}\n"
        "    passwordFrom: { secretKeyRef: { name: shop, key: password } }\n",
    )
    postgres.new_database("pulled")
    with postgres.connect("pulled") as connection:
        connection.execute("CREATE TABLE orders (id bigint, note text, at timestamptz)")
    finished = workspace.good("schema", "pull", "shop", "shop.yaml", env={"PINTAIL_SECRET_SHOP_PASSWORD": postgres.password})
    tables = {table["name"]: table["columns"] for table in yaml.safe_load(finished.out)["tables"]}
    assert [column["type"] for column in tables["orders"]] == ["BIGINT", "VARCHAR", "TIMESTAMP WITH TIME ZONE"]

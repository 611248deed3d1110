"""What goes wrong because of what people give: manifests, files, queries. The message names the object, the place and
what to do; the exit code is the documented one; and what an earlier run committed is still there.
"""

import re

from spoiled import GOOD, RIDES, query, refused


def lint_and_run(workspace, *fragments: str):
    """Both the check and the run refuse the manifests in `bad/`, with the same words and without a run."""
    before = workspace.good("list", "-o", "name").out
    linted = workspace.pintail("lint", "bad", "local")
    assert linted.code == 1, linted
    text = " ".join((linted.out + linted.err).split())
    for fragment in fragments:
        assert re.search(fragment, text), f"{fragment!r} is not in\n{linted}"
    refused(workspace.pintail("run", "bad", "local"), *fragments)
    assert workspace.good("list", "-o", "name").out == before


# --- manifests


def test_text_that_is_not_yaml(folder):
    folder.write("bad/workflow.yaml", "kind: Workflow\nspec: [unclosed\n")
    lint_and_run(folder, r"bad/workflow\.yaml:\d+:\d+")


def test_an_unknown_field_with_the_nearest_name(folder):
    folder.write("bad/workflow.yaml", GOOD.replace("query:", "qeury:"))
    lint_and_run(folder, r"bad/workflow\.yaml:10:\d+", "qeury", "query")


def test_a_value_of_the_wrong_type(folder):
    folder.write("bad/workflow.yaml", query("SELECT 1 AS one", "retries:\n  limit: many\n"))
    lint_and_run(folder, r"bad/workflow\.yaml:10:\d+", "limit", "many|string")


def test_a_key_that_stands_twice(folder):
    folder.write("bad/workflow.yaml", GOOD.replace("kind: Workflow", "kind: Workflow\nkind: Workflow"))
    lint_and_run(folder, r"bad/workflow\.yaml:4:1", "kind", "twice|duplicate")


def test_every_mistake_is_named_not_only_the_first(folder):
    folder.write(
        "bad/workflow.yaml",
        RIDES.replace("uses: [rides]", "uses: [ridse, nobody]").replace("type: DOUBLE", "type: DUOBLE"),
    )
    lint_and_run(folder, "ridse", "rides", "nobody", "DUOBLE")


def test_an_input_that_the_workflow_does_not_have(folder):
    finished = folder.pintail("run", "good", "--input", "nobody=1")
    assert finished.code in (1, 2), finished
    assert "nobody" in finished.err


def test_a_value_that_is_not_of_the_inputs_type(folder):
    folder.write(
        "bad/workflow.yaml",
        GOOD.replace("spec:\n", "spec:\n  inputs:\n    - name: least\n      type: BIGINT\n").replace(
            "      duckdb:", "      uses: [least]\n      duckdb:"
        ),
    )
    finished = folder.pintail("run", "bad", "--input", "least=few")
    assert finished.code in (1, 2), finished
    assert "least" in finished.err and "BIGINT" in finished.err
    missing = folder.pintail("run", "bad")
    assert missing.code in (1, 2), missing
    assert "least" in missing.err and "--input" in missing.err


def test_wrong_usage_is_told_apart_from_failure(folder):
    refused(folder.pintail("run", "good", "--colour", "red"), "--colour", code=2)
    refused(folder.pintail("run", "nowhere"), "nowhere", code=2)
    assert folder.pintail("frobnicate").code == 2


# --- files


def rides(workspace, content: str | None, manifest: str = RIDES):
    workspace.write("bad/workflow.yaml", manifest)
    if content is not None:
        workspace.write("data/rides.csv", content)
    return workspace.pintail("run", "bad", "local")


def test_a_file_that_is_missing(folder):
    refused(rides(folder, None), r"rides\.csv", "raw", "no file|not found|does not exist|missing|matches no")


def test_a_pattern_that_matches_nothing(folder):
    finished = rides(folder, None, RIDES.replace("path: rides.csv", "path: rides-*.csv"))
    refused(finished, r"rides-\*\.csv", "raw")


def test_a_file_with_other_columns_than_the_contract(folder):
    refused(rides(folder, "ride_id,miles\n1,2.5\n"), r"rides\.csv", "kilometres", "miles")


def test_a_file_without_anything_in_it(folder):
    refused(rides(folder, ""), r"rides\.csv", "empty")


def test_a_broken_line(folder):
    content = "ride_id,kilometres\n1,2.5\n2,3.5\n3,4.5,6.5,one too many\n4,5.5\n"
    text = refused(rides(folder, content), r"rides\.csv", r"\b4\b")
    assert "one too many" not in text, "a value of the data is in the message"


def test_text_where_numbers_are_expected(folder):
    content = "ride_id,kilometres\n1,2.5\n2,quite-far\n"
    text = refused(rides(folder, content), r"rides\.csv", "kilometres", "DOUBLE", r"\b3\b")
    assert "quite-far" not in text, "a value of the data is in the message"


def test_a_missing_value_where_there_must_be_one(folder):
    refused(rides(folder, "ride_id,kilometres\n1,2.5\n,3.5\n"), "ride_id", "NULL|null|missing")


def test_parquet_that_is_none(folder):
    folder.write("data/rides.parquet", "this is no Parquet\n")
    finished = rides(folder, None, RIDES.replace("rides.csv", "rides.parquet"))
    refused(finished, r"rides\.parquet", "[Pp]arquet")


# --- queries


def run_query(workspace, sql: str, more: str = ""):
    workspace.write("bad/workflow.yaml", query(sql, more))
    return workspace.pintail("run", "bad", timeout_s=90)


def test_two_statements_in_a_query(folder):
    refused(
        run_query(folder, "SELECT 1 AS one; SELECT 2 AS two"), "numbers", "one statement|two statements|2 statements"
    )


def test_a_query_that_is_no_sql(folder):
    refused(run_query(folder, "SELEKT 1"), "numbers", "SELEKT")


def test_a_query_that_does_not_bind(folder):
    refused(run_query(folder, "SELECT squaer FROM (SELECT 1 AS square)"), "numbers", "squaer", "square")


def test_a_query_that_reaches_outside(folder):
    secret = folder.write("outside.csv", "a\n1\n")
    refused(run_query(folder, f"SELECT * FROM '{secret}'"), "numbers")


def test_a_query_that_runs_out_of_memory(folder):
    finished = run_query(
        folder,
        "SELECT list(i ORDER BY -i) AS numbers FROM range(10000000) t(i)",
        "resources:\n  memory: 128Mi\n  ephemeralStorage: 16Mi\n",
    )
    refused(finished, "numbers", "memory", r"resources\.memory|resources\.ephemeralStorage")


def test_a_query_that_runs_out_of_time(folder):
    finished = run_query(
        folder,
        "SELECT count(*) AS n FROM range(1000000) a, range(1000000) b WHERE a.range * b.range % 7 = 3",
        "timeout: 1s\n",
    )
    refused(finished, "task numbers: Timeout", "`timeout` of 1s")

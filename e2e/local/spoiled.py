"""Small workflows to spoil, and what a refusal must say."""

import re
import textwrap

GOOD = """
apiVersion: pintail.dev/v1alpha1
kind: Workflow
metadata:
  name: before
spec:
  tasks:
    - name: numbers
      duckdb:
        query: SELECT i, i * i AS square FROM range(1000) t(i)
"""

RIDES = """
apiVersion: pintail.dev/v1alpha1
kind: Workflow
metadata:
  name: rides
spec:
  inputs:
    - name: rides
      type: table
      columns:
        - name: ride_id
          type: BIGINT
          nullable: false
        - name: kilometres
          type: DOUBLE
      default:
        connection: raw
        path: rides.csv
  tasks:
    - name: longest
      uses: [rides]
      duckdb:
        query: SELECT max(kilometres) AS kilometres FROM rides
"""

RAW = """
apiVersion: pintail.dev/v1alpha1
kind: Connection
metadata:
  name: raw
spec:
  folder:
    path: ../data
"""


def query(sql: str, more: str = "") -> str:
    """A workflow of one task with this query."""
    return (
        GOOD.replace("name: before", "name: bad")
        .replace(
            "query: SELECT i, i * i AS square FROM range(1000) t(i)", "query: |\n" + textwrap.indent(sql, " " * 10)
        )
        .replace(
            "      duckdb:",
            textwrap.indent(textwrap.dedent(more), " " * 6) + "      duckdb:" if more else "      duckdb:",
        )
    )


def refused(finished, *fragments: str, code: int = 1):
    """The program ended as it must and said all of it on stderr. `pytest -rP` shows what it said."""
    print(finished.err)
    assert finished.code == code, finished
    text = " ".join(finished.err.split())
    for fragment in fragments:
        assert re.search(fragment, text), f"{fragment!r} is not in\n{finished}"
    assert "panicked" not in finished.err, finished
    return text

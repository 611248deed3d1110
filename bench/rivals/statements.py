"""What people do without Pintail: a fresh Python that runs statements, one after another, by the package duckdb.

Standard input holds JSON: `settings` (name to value), `statements`, `database` (name and path, attached read-only).
"""

import json
import sys

import duckdb

work = json.load(sys.stdin)
connection = duckdb.connect(config=work["settings"])
if database := work.get("database"):
    connection.execute(f"ATTACH '{database['path']}' AS {database['name']} (READ_ONLY)")
for statement in work["statements"]:
    connection.execute(statement)

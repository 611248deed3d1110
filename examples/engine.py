"""Runs SQL in a DuckDB database file by the project's own `lib/libduckdb.so`, without any Python package."""

import ctypes
from pathlib import Path

LIBRARY = Path(__file__).resolve().parent.parent / "lib" / "libduckdb.so"


def run_sql(database: Path, statements: list[str]) -> None:
    """Runs the statements one after another in the database file, which is made where it is missing."""
    if not LIBRARY.is_file():
        raise SystemExit(f"{LIBRARY} is missing: `make setup` fetches it")
    duckdb = ctypes.CDLL(str(LIBRARY))
    duckdb.duckdb_result_error.restype = ctypes.c_char_p
    handle, connection = ctypes.c_void_p(), ctypes.c_void_p()
    if duckdb.duckdb_open(str(database).encode(), ctypes.byref(handle)) != 0:
        raise SystemExit(f"{database} does not open")
    duckdb.duckdb_connect(handle, ctypes.byref(connection))
    # `duckdb_result` of duckdb.h: three numbers and three pointers; one word is to spare.
    result = (ctypes.c_uint64 * 7)()
    for statement in statements:
        if duckdb.duckdb_query(connection, statement.encode(), ctypes.byref(result)) != 0:
            raise SystemExit(duckdb.duckdb_result_error(ctypes.byref(result)).decode())
        duckdb.duckdb_destroy_result(ctypes.byref(result))
    duckdb.duckdb_disconnect(ctypes.byref(connection))
    duckdb.duckdb_close(ctypes.byref(handle))

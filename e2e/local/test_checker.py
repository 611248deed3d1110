"""The checker as a server: it answers hostile SQL within its bound, nothing is read, written or sent, and what comes next is
checked as ever.
"""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from workspace import ROOT

SECRET = "pintail-secret-in-the-environment"
# Of one check, with the start of another worker; the test machine may be busy.
BOUND_SECONDS = 30


class Checker:
    """`pintail-runner checker` on a port of its own."""

    def __init__(self, folder: Path):
        self.errors = folder / "stderr"
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "SECRET": SECRET}
        with self.errors.open("wb") as errors:
            program = os.environ.get("PINTAIL_RUNNER", str(ROOT / "bin" / "pintail-runner"))
            command = [program, "checker", "--listen", "127.0.0.1:0"]
            environment |= {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
            self.process = subprocess.Popen(command, cwd=folder, env=environment, stderr=errors)
        until = time.monotonic() + BOUND_SECONDS
        while not (found := re.search(r"taken at (\S+)", self.log())):
            assert self.process.poll() is None and time.monotonic() < until, self.log()
            time.sleep(0.02)
        self.address = found[1]

    def log(self) -> str:
        return self.errors.read_text()

    def post(self, body: bytes) -> tuple[int, str]:
        request = urllib.request.Request(f"http://{self.address}/v1/check", data=body, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=BOUND_SECONDS) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def check(self, sql: str, setup: tuple[str, ...] = ()) -> tuple[int, str]:
        """Asks again, as the operator does, where the machine gave the check no time."""
        until = time.monotonic() + BOUND_SECONDS
        while (answer := self.post(request(sql, setup)))[0] == 504 and time.monotonic() < until:
            pass
        return answer

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(pid) for path in children for pid in path.read_text().split()]


def request(sql: str, setup: tuple[str, ...] = ()) -> bytes:
    query = {"output": "result", "sql": sql, "kind": "Table", "contract": None}
    columns = [{"name": "id", "data_type": "BIGINT"}, {"name": "code", "data_type": "VARCHAR"}]
    task = {
        "name": "a",
        "tables": [{"name": "orders", "origin": {"Input": "orders"}}],
        "parameters": [],
        "databases": [],
        "work": {"DuckDb": {"setup": list(setup), "queries": [query], "load": None}},
    }
    inputs = [{"name": "orders", "shape": {"columns": columns, "open": False}}]
    whole = {"format": 1, "databases": [], "inputs": inputs, "scalars": [], "tasks": [task], "masking": ["md5"]}
    return json.dumps(whole).encode()


def is_right(answer: tuple[int, str]) -> bool:
    """The answer to a query that gives `id` and `n`, and nothing else."""
    status, text = answer
    if status != 200:
        return False
    found = json.loads(text)
    names = [column["name"] for column in found["results"][0]["shape"]["columns"]]
    return not found["findings"] and names == ["id", "n"]


RIGHT = "SELECT id, count(*) AS n FROM orders GROUP BY ALL"
# To know the columns of this, DuckDB runs the inner query.
ENDLESS = "PIVOT orders ON id IN (SELECT i FROM range(1000000000000000) t(i) WHERE i % 7 = 9) USING count(*)"


@pytest.fixture(scope="module")
def checker(tmp_path_factory):
    checker = Checker(tmp_path_factory.mktemp("checker"))
    yield checker
    checker.process.send_signal(signal.SIGTERM)
    assert checker.process.wait(timeout=BOUND_SECONDS) == 0


def test_right_sql_and_wrong_sql_are_told_apart(checker):
    assert is_right(checker.check(RIGHT))
    status, text = checker.check("SELECT quantty FROM orders")
    (finding,) = json.loads(text)["findings"]
    assert (status, finding["rule"], finding["offset"]) == (200, "UnknownColumn", 7)


ESCAPES = [
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM read_text('/proc/self/environ')",
    "SELECT content FROM read_blob('/etc/hostname')",
    "SELECT * FROM glob('/*')",
    "COPY orders TO '{folder}/out.csv'",
    "COPY (SELECT 1) TO '{folder}/out.parquet'",
    "EXPORT DATABASE '{folder}/all'",
    "ATTACH '{folder}/new.duckdb' AS new",
    "ATTACH 'http://{listener}/a.duckdb' AS far (READ_ONLY)",
    "SELECT * FROM read_csv('http://{listener}/a.csv')",
    "SELECT * FROM read_parquet('s3://{listener}/a.parquet')",
    "INSTALL httpfs",
    "INSTALL httpfs FROM 'http://{listener}'",
    "LOAD httpfs",
    "LOAD '{folder}/own.duckdb_extension'",
    "SELECT getenv('SECRET')",
    "SELECT current_setting('secret_directory')",
    "SET enable_external_access = true",
    "SET temp_directory = '{folder}/spill'",
    "PRAGMA enable_profiling; PRAGMA profiling_output = '{folder}/profile'",
    "CREATE SECRET s (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "SELECT * FROM duckdb_secrets()",
    "CREATE TABLE stolen AS SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM query('SELECT * FROM read_text(''/etc/passwd'')')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM parquet_metadata('/etc/passwd')",
]


@pytest.mark.parametrize("sql", ESCAPES)
@pytest.mark.parametrize("place", ["query", "setup"])
def test_sql_finds_no_way_out(checker, tmp_path, sql, place):
    told = Path("/etc/passwd").read_text().splitlines()[0], Path("/etc/hostname").read_text().strip(), SECRET
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        address = "{}:{}".format(*listener.getsockname())
        sql = sql.format(folder=tmp_path, listener=address)
        status, text = checker.check(sql) if place == "query" else checker.check(RIGHT, (sql,))
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert status in (200, 422), text
    assert not any(secret in text for secret in told if secret), text
    assert not list(tmp_path.iterdir())
    assert is_right(checker.check(RIGHT))


def test_a_worker_has_nothing_of_its_server_and_can_open_nothing(checker):
    assert is_right(checker.check(RIGHT))
    (worker,) = checker.workers()
    environment = Path(f"/proc/{worker}/environ").read_bytes()
    assert SECRET.encode() not in environment
    limits = Path(f"/proc/{worker}/limits").read_text()
    for name in ("Max open files", "Max file size", "Max core file size"):
        assert re.search(rf"{name}\s+0\s", limits), limits


@pytest.mark.parametrize(
    "setup",
    [
        "CREATE TEMP TABLE t AS SELECT * FROM orders",
        "CREATE MACRO twice(x) AS 2 * x",
        "CREATE TEMP TABLE t AS SELECT now() AT TIME ZONE 'Europe/Berlin' AS a, '[1]'::JSON AS b",
        "CREATE TYPE colour AS ENUM ('red')",
    ],
)
def test_that_it_can_open_nothing_keeps_it_from_nothing(checker, setup):
    (worker,) = checker.workers()
    for _ in range(3):
        assert is_right(checker.check(RIGHT, (setup,)))
    assert checker.workers() == [worker]


BOMBS = {
    "a huge constant": "SELECT repeat('x', 1000000000) AS a",
    "huge constants": "SELECT " + ", ".join(f"repeat('x{n}', 100000000) AS a{n}" for n in range(50)),
    "a huge list": "SELECT range(2000000000) AS a",
    "a huge list, joined": "SELECT list_aggregate(range(500000000), 'sum') AS a",
    "an endless recursion": "WITH RECURSIVE r AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM r) SELECT * FROM r",
    "an endless recursion that has to be folded": (
        "SELECT (WITH RECURSIVE r AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM r) SELECT max(a) FROM r) AS a"
    ),
    "a macro that calls itself": "SELECT f(1) AS a",
    "nested brackets": "SELECT " + "(" * (1 << 19) + "1" + ")" * (1 << 19) + " AS a",
    "nested brackets that do not close": "SELECT " + "(" * (1 << 20),
    "nested lists": "SELECT " + "[" * (1 << 19) + "]" * (1 << 19) + " AS a",
    "nested queries": "SELECT * FROM (" * 50000 + "SELECT 1" + ")" * 50000,
    "many comparisons": "SELECT id FROM orders WHERE " + " AND ".join(f"id = {n}" for n in range(20000)),
    "a long sum": "SELECT " + " + ".join(["1"] * 200000) + " AS a",
    "many columns": "SELECT " + ", ".join(f"{n} AS a{n}" for n in range(100000)),
    "many joins": "SELECT count(*) FROM orders " + " ".join(f"CROSS JOIN orders o{n}" for n in range(300)),
    "a hostile pattern": "SELECT regexp_matches(repeat('a', 1000000), '(a*)*(a*)*(a*)*b') AS a",
    "a large number": "SELECT " + "9" * 1000000 + " AS a",
    "a long computation": "SELECT * FROM range(levenshtein(repeat('ab', 200000), repeat('ba', 200000)))",
    "a query within a query": "SELECT * FROM query('SELECT ' || levenshtein(repeat('ab', 200000), repeat('ba', 200000))::VARCHAR)",
    "a pivot that sleeps": "PIVOT orders ON id IN (SELECT sleep_ms(600000)) USING count(*)",
    "a pivot of everything": "PIVOT orders ON id USING count(*)",
    "text that is not text": "SELECT '\x00\ufffd\u202e' AS a",
}


@pytest.mark.parametrize("what", BOMBS)
def test_sql_that_is_made_to_do_harm_holds_nobody_up(checker, what):
    setup = ("CREATE MACRO f(x) AS f(x + 1)",) if "macro" in what else ()
    started = time.monotonic()
    status, text = checker.post(request(BOMBS[what], setup))
    assert status in (200, 422, 504), (status, text[:300])
    assert len(text) < 64 << 20
    assert is_right(checker.check(RIGHT))
    assert time.monotonic() - started < BOUND_SECONDS


def test_a_check_that_never_ends_is_ended(checker):
    status, text = checker.check(ENDLESS)
    assert (status, text) == (422, "the check took more than 5 seconds\n")
    assert is_right(checker.check(RIGHT))


def test_a_check_that_the_machine_did_not_let_run_is_to_be_asked_for_again(checker):
    assert is_right(checker.check(RIGHT))
    (worker,) = checker.workers()
    os.kill(worker, signal.SIGSTOP)
    status, text = checker.post(request(RIGHT))
    assert status == 504 and "of which the machine gave it 0 ms to run" in text, text
    assert is_right(checker.check(RIGHT))


def test_too_much_sql_is_refused_unread(checker):
    connection = http.client.HTTPConnection(checker.address, timeout=BOUND_SECONDS)
    connection.putrequest("POST", "/v1/check")
    connection.putheader("Content-Length", str(10_000_000))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413 and b"more than 8388608 bytes" in answer.read()
    # Also where it is sent without being announced.
    with contextlib.suppress(OSError):
        checker.post(iter([b"x" * 1_000_000] * 10))
    assert is_right(checker.check(RIGHT))


@pytest.mark.parametrize("body", [b"", b"null", b"[" * 100000, b'{"format": 99}', request(RIGHT).replace(b'"format": 1', b'"format": 99')])
def test_what_is_no_request_is_refused(checker, body):
    assert checker.post(body)[0] == 400
    assert is_right(checker.check(RIGHT))


def test_a_worker_that_is_gone_is_replaced(checker):
    assert is_right(checker.check(RIGHT))
    (worker,) = checker.workers()
    os.kill(worker, signal.SIGKILL)
    assert checker.check(RIGHT)[0] in (200, 422)
    assert is_right(checker.check(RIGHT))


def test_a_hostile_check_makes_others_wait_and_no_more(checker):
    threads = [threading.Thread(target=checker.check, args=(ENDLESS,))]
    threads[0].start()
    answers = []
    threads += [threading.Thread(target=lambda: answers.append(checker.check(RIGHT))) for _ in range(4)]
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(is_right(answer) or answer[0] == 503 for answer in answers), answers
    assert is_right(checker.check(RIGHT))

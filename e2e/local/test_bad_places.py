"""What goes wrong because of machines: buckets, disks, folders, locks, servers, and interruption. As in test_bad_input,
the message names the object, the place and what to do, and what an earlier run committed is still there.
"""

import os
import re
import shutil
import signal
import subprocess
import sys

import duckdb
import pytest

from servers import S3_DENIED, free_port, wait_for
from spoiled import GOOD, RIDES, query, refused
from workspace import BUCKET_SECRETS, ROOT


def bucket_connection(port: int) -> str:
    return f"""
apiVersion: pintail.dev/v1alpha1
kind: Connection
metadata:
  name: raw
spec:
  s3:
    bucket: some-bucket
    endpoint: http://127.0.0.1:{port}
    pathStyle: true
    accessKeyIdFrom:
      secretKeyRef: {{ name: bucket, key: access-key-id }}
    secretAccessKeyFrom:
      secretKeyRef: {{ name: bucket, key: secret-access-key }}
"""


def test_a_bucket_that_cannot_be_reached(folder):
    port = free_port()
    folder.write("bad/workflow.yaml", RIDES)
    folder.write("bucket/raw.yaml", bucket_connection(port))
    finished = folder.pintail("run", "bad", "bucket", env=BUCKET_SECRETS, timeout_s=110)
    text = refused(finished, "raw|some-bucket", f"127.0.0.1:{port}")
    assert "test-secret-key" not in text


def test_credentials_that_the_bucket_refuses(folder, receiver):
    receiver.always = S3_DENIED
    folder.write("bad/workflow.yaml", RIDES)
    folder.write("bucket/raw.yaml", bucket_connection(receiver.port))
    finished = folder.pintail("run", "bad", "bucket", env=BUCKET_SECRETS)
    text = refused(finished, "raw|some-bucket", "credential|403|[Ff]orbidden|access key|denied")
    assert "test-secret-key" not in text


def test_a_secret_that_nobody_set(folder, receiver):
    folder.write("bad/workflow.yaml", RIDES)
    folder.write("bucket/raw.yaml", bucket_connection(receiver.port))
    refused(folder.pintail("run", "bad", "bucket"), "PINTAIL_SECRET_BUCKET_ACCESS_KEY_ID")


def in_a_mount_namespace(workspace, script: str) -> subprocess.CompletedProcess:
    """Runs a shell script that may mount what it likes; nobody else sees it, and it is gone with the script."""
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
    return subprocess.run(
        command,
        cwd=workspace.folder,
        env=workspace.environment(),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


BIG = query("SELECT i, md5(i::VARCHAR) AS digest FROM range(200000) t(i)")


def test_a_disk_that_is_full(folder):
    folder.write("bad/workflow.yaml", BIG)
    folder.path("small").mkdir()
    finished = in_a_mount_namespace(
        folder,
        """
        mount -t tmpfs -o size=1m none small || exit 99
        bin/pintail run good --store small > first 2>&1 || exit 98
        bin/pintail run bad --store small > second 2>&1
        echo $? > code
        bin/pintail list --store small -o name > listed 2>&1
        first=$(grep -o 'before-[a-z0-9]*' listed)
        bin/pintail preview --store small "$first" --sql 'SELECT max(square) FROM result' > seen 2>&1
        true
        """,
    )
    assert finished.returncode == 0, finished
    assert folder.path("code").read_text() == "1\n", folder.path("second").read_text()
    message = folder.path("second").read_text()
    assert re.search("No space left|disk is full|out of space|space", message), message
    assert "small" in message
    assert "998001" in folder.path("seen").read_text(), folder.path("seen").read_text()


def test_a_store_that_is_read_only(folder):
    finished = in_a_mount_namespace(
        folder,
        """
        mount --bind .pintail .pintail && mount -o remount,bind,ro .pintail || exit 99
        bin/pintail run good > said 2>&1
        echo $? > code
        bin/pintail list -o name > listed 2>&1 || exit 98
        """,
    )
    assert finished.returncode == 0, finished
    said = folder.path("said").read_text()
    assert folder.path("code").read_text() == "1\n", said
    assert re.search("[Rr]ead-only", said) and ".pintail" in said, said
    assert "before-" in folder.path("listed").read_text()


EXPORT = (
    GOOD.replace("name: before", "name: bad")
    + """
    - name: hand_over
      uses: [numbers]
      export:
        table: numbers
        to:
          connection: raw
          path: out/numbers.csv
"""
)


def test_a_folder_to_export_to_that_is_read_only(folder):
    folder.write("bad/workflow.yaml", EXPORT)
    finished = in_a_mount_namespace(
        folder,
        """
        mount --bind data data && mount -o remount,bind,ro data || exit 99
        bin/pintail run bad local > said 2>&1
        echo $? > code
        """,
    )
    assert finished.returncode == 0, finished
    said = folder.path("said").read_text()
    assert folder.path("code").read_text() == "1\n", said
    assert re.search("[Rr]ead-only", said) and "hand_over" in said and "data" in said, said


SHOP = """
apiVersion: pintail.dev/v1alpha1
kind: Connection
metadata:
  name: shop
spec:
  duckdb:
    path: ../data/shop.duckdb
    busyTimeout: {busy_timeout}
"""

LOAD = (
    GOOD.replace("name: before", "name: bad").replace("      duckdb:", "      writes: [shop]\n      duckdb:")
    + """\
        load:
          into: shop.numbers
          mode: Replace
"""
)

HOLD = """
import duckdb, sys
database = duckdb.connect(sys.argv[1])
database.execute("CREATE TABLE IF NOT EXISTS mine AS SELECT 42 AS answer")
database.execute("CHECKPOINT")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(folder):
    """Another program that has the database file open for writing, until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, folder.path("data", "shop.duckdb")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.stdin.close()
    process.wait(30)


def test_a_database_file_that_another_program_has_locked(folder, holder):
    folder.write("bad/workflow.yaml", LOAD)
    folder.write("local/shop.yaml", SHOP.format(busy_timeout="1s"))
    finished = folder.pintail("run", "bad", "local")
    refused(finished, r"shop\.duckdb", "lock", str(holder.pid) + "|another process|busyTimeout")
    holder.stdin.close()
    holder.wait(30)
    with duckdb.connect(str(folder.path("data", "shop.duckdb")), read_only=True) as database:
        assert database.execute("SELECT answer FROM mine").fetchall() == [(42,)]
        assert database.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'numbers'").fetchall() == [
            (0,)
        ]


def test_a_locked_database_file_is_waited_for(folder, holder):
    folder.write("bad/workflow.yaml", LOAD)
    folder.write("local/shop.yaml", SHOP.format(busy_timeout="60s"))
    process = folder.start(["bin/pintail", "run", "bad", "local"])
    # The run has met the lock once it has an attempt on record.
    attempts = folder.path(".pintail", "default", "runs")
    before = len(list(attempts.glob("*/numbers")))
    wait_for(
        lambda: len(list(attempts.glob("*/numbers"))) > before or process.poll() is not None, 30, "the first attempt"
    )
    holder.stdin.close()
    holder.wait(30)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    with duckdb.connect(str(folder.path("data", "shop.duckdb")), read_only=True) as database:
        assert database.execute("SELECT count(*), max(square) FROM numbers").fetchall() == [(1000, 998001)]


def test_a_database_file_that_is_none(folder):
    folder.write("bad/workflow.yaml", LOAD)
    folder.write("local/shop.yaml", SHOP.format(busy_timeout="1s"))
    folder.write("data/shop.duckdb", "this is no database\n" * 1000)
    refused(folder.pintail("run", "bad", "local"), r"shop\.duckdb", "numbers")
    assert folder.path("data", "shop.duckdb").read_text() == "this is no database\n" * 1000


def test_a_store_of_a_newer_version(folder):
    mark = folder.path(".pintail", "_format")
    mark.write_text(mark.read_text().replace("1", "999"))
    for command in (["run", "good"], ["list"], ["preview", "@latest"], ["resume", "@latest"]):
        refused(folder.pintail(*command), r"\.pintail", "999", "newer")


def test_a_mail_server_that_is_not_there(folder):
    folder.write(
        "bad/workflow.yaml",
        GOOD.replace("name: before", "name: bad")
        + """
    - name: tell
      uses: [numbers]
      notify:
        connection: mail
        to: [data@example.com]
        subject: Done
""",
    )
    port = free_port()
    folder.write(
        "local/mail.yaml",
        f"""
apiVersion: pintail.dev/v1alpha1
kind: Connection
metadata:
  name: mail
spec:
  smtp:
    host: 127.0.0.1
    port: {port}
    encryption: None
    from: pintail@example.com
""",
    )
    refused(folder.pintail("run", "bad", "local", timeout_s=110), "tell", "mail", f"127.0.0.1:{port}")


# --- interruption


def test_ctrl_c_cancels_and_says_how_to_go_on(folder):
    folder.write(
        "bad/workflow.yaml",
        query("SELECT count(*) AS n FROM range(1000000) a, range(1000000) b WHERE a.range * b.range % 7 = 3"),
    )
    process = folder.start(["bin/pintail", "run", "bad"])
    runs = folder.path(".pintail", "default", "executions")
    wait_for(lambda: any(path.name.startswith("bad") for path in runs.glob("*.json")), 30, "the run's record")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, (out, err)
    assert "panicked" not in err


def test_programs_work_from_any_folder(folder):
    elsewhere = folder.path("elsewhere")
    elsewhere.mkdir()
    finished = subprocess.run(
        [ROOT / "bin" / "pintail", "run", "../good", "-o", "name"],
        cwd=elsewhere,
        env=folder.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0, finished
    assert (elsewhere / ".pintail").is_dir()


def test_a_copy_of_the_programs_works_without_environment_variables(folder, tmp_path):
    """`bin/` and `lib/` may be moved together: the library is found beside the programs."""
    for part in ("bin", "lib"):
        shutil.copytree(ROOT / part, tmp_path / "moved" / part)
    environment = {key: value for key, value in folder.environment().items() if key != "LD_LIBRARY_PATH"}
    finished = subprocess.run(
        [tmp_path / "moved" / "bin" / "pintail", "run", "good", "-o", "name"],
        cwd=folder.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0, finished
    assert os.path.basename(finished.stdout.strip().rpartition("/")[2]).startswith("before-")

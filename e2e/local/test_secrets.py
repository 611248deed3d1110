"""Secrets and personal data, planted as canaries, turn up nowhere but where they belong."""

import csv
import io

import duckdb
import pyarrow.parquet
import pytest

from servers import S3_DENIED
from workspace import EXAMPLES, Workspace

CANARY = "cAnArY-7f3e91d4"


def everything_written(workspace: Workspace, *said: str) -> dict[str, bytes]:
    """Every file below the workspace but what the test itself put there, and what programs said."""
    found = {f"what a program said ({number})": text.encode() for number, text in enumerate(said)}
    for top in (".pintail", "temporary"):
        found |= {str(path): path.read_bytes() for path in workspace.path(top).rglob("*") if path.is_file()}
    for path in workspace.path("examples").glob("*/out/**/*"):
        if path.is_file():
            found[str(path)] = path.read_bytes()
    return found


def unpacked(name: str, content: bytes) -> bytes:
    """What is in a file, also where it is compressed."""
    if name.endswith(".parquet"):
        return content + repr(pyarrow.parquet.read_table(io.BytesIO(content)).to_pydict()).encode()
    if name.endswith(".duckdb"):
        with duckdb.connect(name, read_only=True) as database:
            tables = [row[0] for row in database.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
            return content + "".join(repr(database.table(table).fetchall()) for table in tables).encode()
    return content


def assert_nowhere(words: list[str], files: dict[str, bytes]):
    assert files
    for name, content in files.items():
        seen = unpacked(name, content).lower()
        for word in words:
            assert word.lower().encode() not in seen, f"{word!r} is in {name}"


def logs_of_all(workspace: Workspace, env=None) -> list[str]:
    said = []
    for name in workspace.good("list", "-o", "name", env=env).out.split():
        name = name.rpartition("/")[2]
        for command in ("logs", "get"):
            finished = workspace.pintail(command, name, env=env)
            said += [finished.out, finished.err]
        finished = workspace.pintail("get", name, "-o", "json", env=env)
        said += [finished.out, finished.err]
    return said


@pytest.mark.parametrize("broken", [False, True])
def test_masked_orders_hold_nothing_personal_and_no_secret(workspace, broken):
    folder = workspace.copy_example("mask-personal-data")
    (folder / "local" / "secret.yaml").unlink()
    with open(EXAMPLES / "mask-personal-data" / "data" / "orders.csv", newline="") as file:
        orders = list(csv.DictReader(file))
    personal = {
        order[column].strip() for order in orders for column in ("customer_name", "customer_email", "delivery_address")
    }
    if broken:
        # A line that does not fit the contract, full of what must not be repeated in a message.
        with open(folder / "data" / "orders.csv", "a") as file:
            file.write("9999,yesterday,Ada Abadi,ada.abadi@mail.example,1 Elm Grove,Notebook,one,2.50\n")
    env = {"PINTAIL_SECRET_MASKING_PEPPER": CANARY}
    finished = workspace.pintail("run", folder, folder / "local", env=env)
    assert finished.code == int(broken), finished
    said = [finished.out, finished.err, *logs_of_all(workspace, env)]
    assert_nowhere([CANARY, *sorted(personal - {""})], everything_written(workspace, *said))


def test_a_query_that_fails_on_a_secret_does_not_show_it(workspace):
    folder = workspace.copy_example("mask-personal-data")
    (folder / "local" / "secret.yaml").unlink()
    manifest = folder / "workflow.yaml"
    text = manifest.read_text().replace("sha256($keys_pepper || '|' || email)", "CAST($keys_pepper AS INTEGER)")
    assert "AS INTEGER" in text
    manifest.write_text(text)
    env = {"PINTAIL_SECRET_MASKING_PEPPER": CANARY}
    finished = workspace.pintail("run", folder, folder / "local", env=env)
    assert finished.code == 1, finished
    assert_nowhere([CANARY], everything_written(workspace, finished.out, finished.err, *logs_of_all(workspace, env)))


MAIL = """
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
    usernameFrom:
      secretKeyRef: {{ name: mail, key: username }}
    passwordFrom:
      secretKeyRef: {{ name: mail, key: password }}
"""


def test_bucket_and_mail_credentials_stay_with_their_servers(workspace, mailbox):
    folder = workspace.copy_example("monthly-report")
    (folder / "bucket" / "mail.yaml").write_text(MAIL.format(port=mailbox.port))
    workspace.need_bucket()
    workspace.buckets.upload(folder / "data", workspace.bucket, "monthly-report")
    env = {
        "PINTAIL_SECRET_BUCKET_ACCESS_KEY_ID": f"{CANARY}-id",
        "PINTAIL_SECRET_BUCKET_SECRET_ACCESS_KEY": f"{CANARY}-key",
        "PINTAIL_SECRET_MAIL_USERNAME": f"{CANARY}-user",
        "PINTAIL_SECRET_MAIL_PASSWORD": f"{CANARY}-password",
    }
    finished = workspace.pintail("run", folder, folder / "bucket", env=env)
    assert finished.code == 0, finished
    assert mailbox.credentials[-1:] == [(f"{CANARY}-user", f"{CANARY}-password")]
    assert_nowhere([CANARY], everything_written(workspace, finished.out, finished.err, *logs_of_all(workspace, env)))


def test_refused_bucket_credentials_are_not_repeated(workspace, receiver):
    receiver.always = S3_DENIED
    folder = workspace.copy_example("hello")
    manifest = folder / "bucket" / "raw.yaml"
    manifest.write_text(manifest.read_text().replace(workspace.buckets.endpoint, f"http://127.0.0.1:{receiver.port}"))
    env = {
        "PINTAIL_SECRET_BUCKET_ACCESS_KEY_ID": f"{CANARY}-id",
        "PINTAIL_SECRET_BUCKET_SECRET_ACCESS_KEY": f"{CANARY}-key",
    }
    finished = workspace.pintail("run", folder, folder / "bucket", env=env)
    assert finished.code == 1, finished
    assert_nowhere([CANARY], everything_written(workspace, finished.out, finished.err, *logs_of_all(workspace, env)))


def test_a_wrong_database_password_is_not_repeated(workspace, postgres):
    postgres.new_database(workspace.database)
    folder = workspace.copy_example("incremental-load")
    env = {"PINTAIL_SECRET_LAKE_PASSWORD": CANARY}
    finished = workspace.pintail("run", folder, folder / "postgres", env=env, timeout_s=100)
    assert finished.code == 1, finished
    assert "lake" in finished.err and "password" in finished.err, finished
    assert_nowhere([CANARY], everything_written(workspace, finished.out, finished.err, *logs_of_all(workspace, env)))


HTTP = """
apiVersion: pintail.dev/v1alpha1
kind: Connection
metadata:
  name: raw
spec:
  http:
    url: http://127.0.0.1:{port}
    bearerTokenFrom:
      secretKeyRef: {{ name: web, key: token }}
"""

HOOK = """
apiVersion: pintail.dev/v1alpha1
kind: Connection
metadata:
  name: hook
spec:
  webhook:
    urlFrom:
      secretKeyRef: {{ name: web, key: url }}
    bearerTokenFrom:
      secretKeyRef: {{ name: web, key: token }}
"""

TELL = """
    - name: tell
      uses: [trip_time]
      notify:
        connection: hook
        subject: "$(tasks.trip_time.rows) row"
        body: Done.
"""


@pytest.mark.parametrize("refused", [False, True])
def test_tokens_and_secret_urls_stay_with_their_servers(workspace, receiver, refused):
    folder = workspace.copy_example("hello")
    (folder / "local" / "raw.yaml").write_text(HTTP.format(port=receiver.port))
    (folder / "local" / "hook.yaml").write_text(HOOK.format())
    with open(folder / "workflow.yaml", "a") as manifest:
        manifest.write(TELL)
    receiver.files["/rides.csv"] = (folder / "data" / "rides.csv").read_bytes()
    receiver.token = "another token" if refused else f"{CANARY}-token"
    env = {
        "PINTAIL_SECRET_WEB_TOKEN": f"{CANARY}-token",
        "PINTAIL_SECRET_WEB_URL": f"http://127.0.0.1:{receiver.port}/hooks/{CANARY}-path",
    }
    finished = workspace.pintail("run", folder, folder / "local", env=env)
    assert finished.code == int(refused), finished
    if not refused:
        (post,) = [request for request in receiver.requests if request.method == "POST"]
        assert post.path == f"/hooks/{CANARY}-path"
        assert post.headers["authorization"] == f"Bearer {CANARY}-token"
    assert_nowhere([CANARY], everything_written(workspace, finished.out, finished.err, *logs_of_all(workspace, env)))

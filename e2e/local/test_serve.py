"""LaunchPlans on this machine, by `pintail serve`: what happens starts a run, each exactly once, whatever is killed when."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import duckdb
import pytest

from servers import wait_for
from spoiled import GOOD, refused
from workspace import EXAMPLES, BUCKET_SECRETS, outputs, succeeded

DEADLINE_S = 90


class Serving:
    """`pintail serve` under way: the objects that it prints, and an end of it."""

    def __init__(self, workspace, *arguments: str, env=None):
        self.workspace = workspace
        command = ["bin/pintail", "serve", *map(str, arguments), "--listen", "127.0.0.1:0", "-o", "json"]
        self.process = workspace.start(command, env)
        self.said: list[str] = []
        self.seen: list[dict] = []
        self._events: queue.Queue = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._listen, daemon=True).start()
        self.address = self.wait("Serving")["address"]

    def _read(self):
        for line in self.process.stdout:
            self._events.put(json.loads(line))
        self._events.put(None)

    def _listen(self):
        for line in self.process.stderr:
            self.said.append(line)

    def wait(self, event: str, **fields) -> dict:
        """The next such object that it prints."""
        end = time.monotonic() + DEADLINE_S
        while True:
            try:
                found = self._events.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"waited in vain for {event}: {self.seen}\n{''.join(self.said)}") from None
            assert found is not None, f"serve ended\n{''.join(self.said)}"
            self.seen.append(found)
            if found["event"] == event and all(found.get(key) == value for key, value in fields.items()):
                return found

    def ended(self) -> dict:
        """The next run that ends, as its record has it."""
        return self.workspace_execution(self.wait("Ended")["execution"])

    def workspace_execution(self, name: str) -> dict:
        return json.loads(self.workspace.good("get", name, "-o", "json").out)

    def kill(self):
        self.process.kill()
        self.process.wait(30)

    def stop(self) -> str:
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(60) == 0, "".join(self.said)
        return "".join(self.said)


@pytest.fixture
def serve(workspace):
    started = []

    def start(*arguments, env=None) -> Serving:
        started.append(Serving(workspace, *arguments, env=env))
        return started[-1]

    yield start
    for serving in started:
        if serving.process.poll() is None:
            serving.kill()


def runs(workspace) -> list[dict]:
    found = json.loads(workspace.good("list", "-o", "json").out)
    return found["items"]


def put(folder: Path, source: Path, name: str):
    """As another program would: written aside, then there."""
    aside = folder / ".unfinished"
    aside.write_bytes(source.read_bytes())
    aside.rename(folder / name)


def fast(folder: Path, example: str):
    """The plan looks each second."""
    plan = folder / "launch-plan.yaml"
    plan.write_text(plan.read_text().replace("every: 5s", "every: 1s"))


# --- the examples


def test_a_file_that_arrives_is_checked_and_mailed(workspace, serve, mailbox):
    folder = workspace.copy_example("anomaly-check")
    fast(folder, "anomaly-check")
    serving = serve(folder, folder / "local")
    put(folder / "data" / "incoming", EXAMPLES / "anomaly-check/data/incoming/orders-2026-11-20.csv", "orders-new.csv")
    execution = serving.ended()
    assert succeeded(execution), execution
    assert execution["spec"]["trigger"]["plan"] == "anomaly-check"
    assert execution["spec"]["trigger"]["name"] == "arrivals"
    assert execution["spec"]["trigger"]["occurrence"].startswith("incoming/orders-new.csv@")
    assert execution["spec"]["inputs"] == {"orders": {"connection": "raw", "path": "incoming/orders-new.csv"}}
    (mail,) = mailbox.mails
    assert mail.subject == "14 wrong totals in orders-new.csv"
    assert list(mail.attachments) == ["anomalies.csv"]
    # What was there before started nothing, and what was seen starts nothing again.
    said = serving.stop()
    assert len(runs(workspace)) == 1, said
    listed = workspace.good("list").out
    assert "anomaly-check/arrivals" in listed
    assert "started by anomaly-check/arrivals" in workspace.good("get", "@latest").out


def test_an_object_that_arrives_in_a_bucket_starts_a_run(workspace, serve, mailbox):
    folder = workspace.copy_example("anomaly-check")
    fast(folder, "anomaly-check")
    workspace.need_bucket()
    serving = serve(folder, folder / "bucket", env=BUCKET_SECRETS)
    content = (EXAMPLES / "anomaly-check/data/incoming/orders-2026-11-20.csv").read_bytes()
    key = "anomaly-check/incoming/orders-new.csv"
    workspace.buckets.client.put_object(Bucket=workspace.bucket, Key=key, Body=content)
    execution = serving.ended()
    assert succeeded(execution), execution["status"]["conditions"]
    (mail,) = mailbox.mails
    assert mail.subject == "14 wrong totals in orders-new.csv"
    serving.stop()
    assert len(runs(workspace)) == 1


def test_a_published_version_starts_one_run_that_reads_it(workspace, serve):
    folder = workspace.copy_example("retail-summary")
    serving = serve(folder, folder / "local")
    published = workspace.pintail("run", folder, folder / "local", "--workflow", "recent-orders", "-o", "json")
    version = outputs(published.execution())["recent"]["artifact"]
    execution = serving.ended()
    assert succeeded(execution), execution
    assert execution["spec"]["trigger"]["occurrence"] == version
    assert execution["spec"]["inputs"]["recent"] == {"artifact": "recent_ecommerce_data", "version": version}
    (pinned,) = [entry for entry in execution["status"]["resolved"]["inputs"] if entry["name"] == "recent"]
    assert pinned["artifact"] == version
    serving.stop()
    # Started again, it knows what it has seen.
    serving = serve(folder, folder / "local")
    second = workspace.pintail("run", folder, folder / "local", "--workflow", "recent-orders", "-o", "json")
    assert serving.ended()["spec"]["trigger"]["occurrence"] == outputs(second.execution())["recent"]["artifact"]
    serving.stop()
    started = [run for run in runs(workspace) if "trigger" in run["spec"]]
    assert len(started) == 2


@pytest.mark.parametrize("example", ["monthly-report", "incremental-load"])
def test_a_schedule_starts_the_run_of_its_tick(example, workspace):
    folder = workspace.copy_example(example)
    name = {"monthly-report": "monthly", "incremental-load": "nightly"}[example]
    at = "2026-03-10T12:00:00Z"
    shown = workspace.good("trigger", f"{example}/{name}", folder, folder / "local", "--at", at, "-o", "json")
    run = json.loads(shown.out)
    tick = {"monthly-report": "2026-02-28T23:00:00Z", "incremental-load": "2026-03-10T02:00:00Z"}[example]
    assert run["spec"]["trigger"]["occurrence"] == tick
    assert runs(workspace) == []
    ran = workspace.pintail("trigger", f"{example}/{name}", folder, folder / "local", "--at", at, "--run", "-o", "json")
    assert ran.code == 0, ran
    assert succeeded(ran.execution())
    assert ran.execution()["metadata"]["name"] == run["metadata"]["name"]
    again = workspace.pintail("trigger", f"{example}/{name}", folder, folder / "local", "--at", at, "--run")
    refused(again, run["metadata"]["name"], "starts one")
    assert len(runs(workspace)) == 1


def send(address: str, event: Path, key: str | None = None) -> subprocess.CompletedProcess:
    """By the example's own program."""
    url = f"http://{address}/events/event-driven/order_created"
    environment = {**os.environ, **({"SIGNING_KEY": key} if key else {})}
    command = [sys.executable, EXAMPLES / "event-driven/send.py", event, url]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def recorded(folder: Path) -> list[tuple]:
    with duckdb.connect(str(folder / "out" / "shop.duckdb"), read_only=True) as database:
        return database.execute("SELECT order_id, total, is_right FROM orders ORDER BY order_id").fetchall()


def test_a_signed_event_starts_one_run_and_gets_the_same_answer_again(workspace, serve):
    folder = workspace.copy_example("event-driven")
    serving = serve(folder, folder / "local")
    event = folder / "data" / "events" / "O-1017.json"
    forged = send(serving.address, event, key="another key")
    assert forged.returncode == 1 and forged.stderr.startswith("401"), forged
    first = send(serving.address, event)
    assert first.returncode == 0 and first.stdout.startswith("202"), first
    execution = serving.ended()
    assert succeeded(execution), execution
    assert execution["metadata"]["name"] in first.stdout
    assert execution["spec"]["trigger"]["occurrence"] == "/shop#created-O-1017"
    again = send(serving.address, event)
    assert again.stdout == first.stdout
    serving.stop()
    assert len(runs(workspace)) == 1
    ((order, _total, is_right),) = recorded(folder)
    assert (order, is_right) == ("O-1017", False)


def test_events_wait_for_each_other_and_each_has_its_run(workspace, serve):
    folder = workspace.copy_example("event-driven")
    serving = serve(folder, folder / "local")
    events = sorted((folder / "data" / "events").glob("*.json"))[:5]
    for event in events:
        assert send(serving.address, event).returncode == 0
    ended = [serving.ended() for _ in events]
    assert all(succeeded(execution) for execution in ended)
    # One at a time, in the order of what happened.
    spans = sorted((run["status"]["startTime"], run["status"]["completionTime"]) for run in ended)
    assert all(before[1] <= after[0] for before, after in zip(spans, spans[1:], strict=False)), spans
    serving.stop()
    assert [row[0] for row in recorded(folder)] == [event.stem for event in events]


# --- killed, and started again


def test_what_was_under_way_when_serve_was_killed_goes_on_and_is_done_once(workspace, serve):
    folder = workspace.copy_example("event-driven")
    serving = serve(folder, folder / "local")
    events = sorted((folder / "data" / "events").glob("*.json"))[:4]
    answers = [send(serving.address, event).stdout for event in events]
    serving.wait("Ended")
    serving.kill()
    serving = serve(folder, folder / "local")
    wait_for(
        lambda: sum(succeeded(run) for run in runs(workspace) if run.get("status", {}).get("conditions")) == 4,
        DEADLINE_S,
        "four runs that succeeded",
    )
    # A sender that heard nothing asks again, and learns the same.
    assert [send(serving.address, event).stdout for event in events] == answers
    serving.stop()
    assert len(runs(workspace)) == 4
    assert [row[0] for row in recorded(folder)] == [event.stem for event in events]


def test_a_file_that_came_while_serve_was_down_starts_its_run(workspace, serve, mailbox):
    folder = workspace.copy_example("anomaly-check")
    fast(folder, "anomaly-check")
    serving = serve(folder, folder / "local")
    incoming, source = folder / "data" / "incoming", EXAMPLES / "anomaly-check/data/incoming/orders-2026-11-20.csv"
    put(incoming, source, "orders-one.csv")
    serving.wait("Created")
    serving.kill()
    put(incoming, source, "orders-two.csv")
    serving = serve(folder, folder / "local")
    wait_for(
        lambda: sum(succeeded(run) for run in runs(workspace) if run.get("status", {}).get("conditions")) == 2,
        DEADLINE_S,
        "two runs that succeeded",
    )
    serving.stop()
    assert len(runs(workspace)) == 2
    subjects = sorted(mail.subject for mail in mailbox.mails)
    # The mail of a run that was killed may be sent twice; there are two runs.
    assert set(subjects) == {"14 wrong totals in orders-one.csv", "14 wrong totals in orders-two.csv"}


PLAN = """
apiVersion: pintail.dev/v1alpha1
kind: LaunchPlan
metadata:
  name: often
spec:
  workflowRef:
    name: before
  triggers:
    - name: minutely
      schedule:
        cron: "* * * * *"
        catchUp: {catch_up}
  {more}
"""


def stored_plan(workspace, name: str) -> Path:
    return workspace.path(".pintail", "default", "launch-plans", f"{name}.json")


def backdate(workspace, name: str, minutes: int):
    """As if serve had been down for so long: the record says what was handled then."""
    path = stored_plan(workspace, name)
    plan = json.loads(path.read_text())
    then = time.strftime("%Y-%m-%dT%H:%M:00Z", time.gmtime(time.time() - 60 * minutes))
    (trigger,) = plan["status"]["triggers"]
    trigger["since"] = trigger["handledThrough"] = then
    path.write_text(json.dumps(plan))


@pytest.mark.parametrize(("catch_up", "least", "most"), [("None", 1, 2), ("Latest", 1, 2), ("All", 10, 12)])
def test_ticks_that_passed_while_serve_was_down(catch_up, least, most, workspace, serve):
    workspace.write("plans/workflow.yaml", GOOD)
    workspace.write("plans/plan.yaml", PLAN.format(catch_up=catch_up, more=""))
    serve("plans").stop()
    backdate(workspace, "often", 10)
    serving = serve("plans")
    serving.wait("Ended")
    said = serving.stop()
    names = [run["spec"]["trigger"]["occurrence"] for run in runs(workspace)]
    assert len(names) == len(set(names)) and least <= len(names) <= most, names
    status = json.loads(stored_plan(workspace, "often").read_text())["status"]["triggers"][0]
    assert status["dropped"] == (0 if catch_up == "All" else pytest.approx(10 - 1, abs=1)), status
    assert catch_up == "All" or "often/minutely  starts nothing" in said


def test_history_is_pruned_and_what_fired_does_not_fire_again(workspace, serve):
    folder = workspace.copy_example("event-driven")
    plan = folder / "launch-plan.yaml"
    plan.write_text(plan.read_text() + "  history:\n    keepSucceeded: 1\n")
    serving = serve(folder, folder / "local")
    events = sorted((folder / "data" / "events").glob("*.json"))[:3]
    answers = [send(serving.address, event).stdout for event in events]
    for _ in events:
        serving.wait("Ended")
    wait_for(lambda: len(runs(workspace)) == 1, 30, "two runs to be pruned")
    assert [send(serving.address, event).stdout for event in events] == answers
    serving.stop()
    serving = serve(folder, folder / "local")
    assert [send(serving.address, event).stdout for event in events] == answers
    serving.stop()
    assert len(runs(workspace)) == 1
    # Its files went with it.
    assert len(list(workspace.path(".pintail", "default", "runs").iterdir())) == 1


# --- by hand


def test_a_run_by_hand_takes_the_inputs_of_its_plan_and_waits_for_room(workspace, serve):
    workspace.write("plans/workflow.yaml", GOOD)
    workspace.write(
        "plans/plan.yaml", PLAN.format(catch_up="None", more="concurrency:\n    limit: 1\n    whenFull: Queue\n")
    )
    finished = workspace.pintail("run", "plan/often", "plans", "-o", "json")
    assert finished.code == 0, finished
    started = finished.execution()["spec"]["trigger"]
    assert started["plan"] == "often" and "name" not in started
    assert "often" in workspace.good("list").out
    refused(workspace.pintail("run", "plan/offen", "plans"), "offen", "often", code=2)
    # Beside serve, which counts it.
    serving = serve("plans")
    assert workspace.pintail("run", "plan/often", "plans").code == 0
    serving.stop()
    by_hand = [run for run in runs(workspace) if "name" not in run["spec"]["trigger"]]
    assert len(by_hand) == 2


def test_the_coming_ticks_are_in_the_plans_zone_and_in_utc(workspace):
    folder = workspace.copy_example("monthly-report")
    finished = workspace.good(
        "next", "monthly-report", folder, folder / "local", "--after", "2026-02-10T00:00:00Z", "--count", "3"
    )
    lines = [line.split() for line in finished.out.splitlines()[1:]]
    assert [line[-1] for line in lines] == ["2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z", "2026-04-30T22:00:00Z"]
    assert lines[0][:4] == ["monthly", "Sun", "2026-03-01", "00:00:00"]


def test_a_plan_is_served_once(workspace, serve):
    folder = workspace.copy_example("event-driven")
    serve(folder, folder / "local")
    refused(workspace.pintail("serve", folder, folder / "local"), "event-driven", "another process")

"""Every example by its README's command, from local files and from a bucket, against an independent calculation."""

import datetime
import json
import shutil
from decimal import Decimal

import duckdb
import pandas
import pyarrow
import pytest

import expected
from compare import as_text, assert_same, assert_same_rows, csv_text_rows, rows
from workspace import EXAMPLES, Finished, outputs, readme_command, task

PEPPER = "only-for-trying-out"


@pytest.fixture(params=["local", "bucket"])
def place(request):
    return request.param


def data(example: str):
    return EXAMPLES / example / "data"


def readme(example: str) -> str:
    return (EXAMPLES / example / "README.md").read_text()


def database_rows(path, query: str) -> list[tuple]:
    with duckdb.connect(str(path), read_only=True) as database:
        return [tuple(row) for row in database.execute(query).fetchall()]


def test_hello_gives_the_mean_trip_time(workspace, place):
    execution = workspace.example("hello", place)["hello"]
    rides, minutes = expected.trip_time(data("hello"))
    table = workspace.table(outputs(execution)["trip_time"])
    assert_same_rows(rows(table), [(rides, minutes)])
    assert f"| {rides} | {minutes} |" in readme("hello")


def test_monthly_report_mails_the_volume_of_each_month_best_first(workspace, place, mailbox):
    execution = workspace.example("monthly-report", place)["monthly-report"]
    volume = expected.monthly_volume(data("monthly-report"), 2025)
    assert_same(workspace.table(outputs(execution)["volume"]), volume)
    assert outputs(execution)["best_month"]["value"] == volume.month[0]

    (mail,) = mailbox.mails
    assert mail.recipients == ["data@example.com"]
    assert mail.subject == f"Best month of 2025: {volume.month[0]}"
    assert f"{volume.pieces[0]} pieces for {volume.revenue[0]} were sold" in mail.body
    assert "all 12 months" in mail.body
    assert list(mail.attachments) == ["monthly-volume-2025.csv"]
    assert csv_text_rows(mail.attachments["monthly-volume-2025.csv"]) == as_text(volume)
    assert task(execution, "complain")["state"] == "Skipped"

    assert f"`{mail.subject}`" in readme("monthly-report")
    for row in as_text(volume)[1:4]:
        assert f"| {' | '.join(row)} |" in readme("monthly-report")
    assert f"{volume.booked_late.sum()} orders of the year" in readme("monthly-report")


def test_monthly_report_publishes_a_version_of_the_years_partition(workspace):
    execution = workspace.example("monthly-report", "local")["monthly-report"]
    output = outputs(execution)["volume"]
    artifact = json.loads(workspace.good("get", output["artifact"], "-o", "json").out)
    assert artifact["kind"] == "Artifact"
    assert artifact["spec"]["artifact"] == "monthly_volume"
    assert artifact["spec"]["partition"] == {"year": "2025"}
    assert artifact["spec"]["rows"] == 12
    assert artifact["spec"]["uri"] == output["uri"]
    assert artifact["spec"]["bytes"] == len(workspace.bytes_at(output["uri"]))
    assert [column["name"] for column in artifact["spec"]["columns"]] == workspace.table(output).column_names
    assert artifact["spec"]["producedBy"]["execution"] == execution["metadata"]["name"]


def test_monthly_report_complains_when_a_file_is_broken(workspace, mailbox):
    folder = workspace.copy_example("monthly-report")
    with open(folder / "data" / "monthly" / "orders-2025-03.csv", "a") as file:
        file.write("O-999999,not a time,North,Travel mug,1,21.30\n")
    finished = workspace.pintail("run", folder, folder / "local", "-o", "json")
    assert finished.code == 1
    (mail,) = mailbox.mails
    assert mail.subject == "The monthly report failed"
    assert finished.execution()["metadata"]["name"] in mail.body


def test_mask_leaves_digests_where_people_were(workspace, place):
    env = {"PINTAIL_SECRET_MASKING_PEPPER": PEPPER} if place == "bucket" else {}
    execution = workspace.example("mask-personal-data", place, env=env)["mask-personal-data"]
    masked = expected.masked_orders(data("mask-personal-data"), PEPPER)
    warehouse = workspace.path("examples", "mask-personal-data", "out", "warehouse.duckdb")
    loaded = database_rows(warehouse, f"SELECT {', '.join(masked.columns)} FROM orders ORDER BY order_id")
    assert_same_rows(rows(loaded), rows(masked))
    assert outputs(execution)["loaded_rows"]["value"] == len(masked)
    customers = expected.customers(masked)
    assert_same(workspace.table(outputs(execution)["customers"]), customers)
    assert f"{len(masked)} orders are in the table" in readme("mask-personal-data")
    assert f"of {len(customers)} customers" in readme("mask-personal-data")

    again = workspace.example("mask-personal-data", place, env=env)["mask-personal-data"]
    assert outputs(again)["loaded_rows"]["value"] == 0


def test_anomaly_check_mails_exactly_the_wrong_rows(workspace, place, mailbox):
    workspace.example("anomaly-check", place)
    wrong = expected.anomalies(data("anomaly-check") / "incoming" / "orders-2026-11-20.csv")
    # As the contract has it: four decimals.
    wrong["total"] = [total and total.quantize(Decimal("0.0001")) for total in wrong.total]
    (mail,) = mailbox.mails
    assert mail.subject == f"{len(wrong)} wrong totals in orders-2026-11-20.csv"
    assert csv_text_rows(mail.attachments["anomalies.csv"]) == as_text(wrong)
    assert f"`{mail.subject}`" in readme("anomaly-check")


def test_anomaly_check_is_silent_when_all_is_right(workspace, mailbox):
    right = "examples/anomaly-check/data/incoming/orders-2026-11-19.csv"
    more = ["--input", f"orders={right}"]
    assert f"local {' '.join(more)}\n" in readme("anomaly-check")
    execution = workspace.example("anomaly-check", "local", *more)["anomaly-check"]
    assert mailbox.mails == []
    assert task(execution, "alert")["state"] == "Skipped"
    assert workspace.table(outputs(execution)["anomalies"]).num_rows == 0
    assert len(expected.anomalies(EXAMPLES.parent / right)) == 0


def test_event_driven_checks_and_records_orders_that_came_before_there_were_events(workspace, place):
    execution = workspace.example("event-driven", place)["event-driven"]
    checked = expected.checked_orders(data("event-driven"))
    assert_same(workspace.table(outputs(execution)["checked"]), checked)
    assert outputs(execution)["recorded_rows"]["value"] == len(checked)
    shop = workspace.path("examples", "event-driven", "out", "shop.duckdb")
    assert_same_rows(database_rows(shop, "FROM orders ORDER BY order_id"), rows(checked))
    assert f"takes the {len(checked)} orders" in readme("event-driven")


def test_retail_summary_answers_its_three_questions(workspace, place):
    executions = workspace.example("retail-summary", place)
    retail = expected.retail(data("retail-summary"))
    recent = outputs(executions["recent-orders"])["recent"]
    assert_same(workspace.table(recent), retail.recent, ordered=False)

    summary = executions["retail-summary"]
    for name in ("trends", "elasticity", "segments"):
        assert_same(workspace.table(outputs(summary)[name]), getattr(retail, name))
    page = workspace.bytes_at(outputs(summary)["summary"]["uri"])
    assert page.startswith(b"<!doctype html>") or page.startswith(b"<!DOCTYPE html>")

    # What was read is the version that was published, and says so.
    (pinned,) = [entry for entry in summary["status"]["resolved"]["inputs"] if entry["name"] == "recent"]
    assert pinned["artifact"] == recent["artifact"]
    trends = json.loads(workspace.good("get", outputs(summary)["trends"]["artifact"], "-o", "json").out)
    assert trends["spec"]["derivedFrom"] == [recent["artifact"]]


def test_retail_summarys_readme_has_the_numbers():
    text, retail = readme("retail-summary"), expected.retail(data("retail-summary"))
    assert f"| recent | {len(retail.recent)} |" in text
    for name, first in {
        "trends": f"{retail.trends.description[0]}, {retail.trends.change[0]:.1f} pieces a line more",
        "elasticity": f"{retail.elasticity.stock_code[0]}, PACK OF 72 RETROSPOT CAKE CASES: elasticity "
        f"{retail.elasticity.elasticity[0]:.2f}, correlation {retail.elasticity.correlation[0]:.2f}",
        "segments": f"{retail.segments.segment[0]}: {retail.segments.customers[0]} customers, "
        f"revenue {retail.segments.revenue[0]}",
    }.items():
        assert f"| {name} | {len(getattr(retail, name))} | {first}" in text


def test_retail_summarys_tasks_run_at_the_same_time(workspace):
    summary = workspace.example("retail-summary", "local")["retail-summary"]
    starts = [
        datetime.datetime.fromisoformat(task(summary, name)["startTime"])
        for name in ("trends", "elasticity", "segments")
    ]
    ends = [
        start + duration(task(summary, name))
        for start, name in zip(starts, ("trends", "elasticity", "segments"), strict=True)
    ]
    assert max(starts) < min(ends), "no moment at which all three ran"


def duration(entry: dict) -> datetime.timedelta:
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    seconds, number = 0.0, ""
    text = entry["duration"]
    while text:
        digits = len(text) - len(text.lstrip("0123456789."))
        number, text = text[:digits], text[digits:]
        unit = next(unit for unit in units if text.startswith(unit))
        text = text[len(unit) :]
        seconds += float(number) * units[unit]
    return datetime.timedelta(seconds=seconds)


def test_retail_summary_takes_a_parameter(workspace):
    workspace.example("retail-summary", "local")
    more = ["--workflow", "retail-summary", "--input", "min_quantity=5"]
    summary = workspace.example("retail-summary", "local", *more)["retail-summary"]
    retail = expected.retail(data("retail-summary"), min_quantity=5)
    for name in ("trends", "elasticity", "segments"):
        assert_same(workspace.table(outputs(summary)[name]), getattr(retail, name))


# --- incremental-load

COLUMNS = "trip_id, pickup_at, dropoff_at, passenger_count, trip_distance, pickup_zone, dropoff_zone, fare_amount, tip_amount, total_amount, source_file"  # noqa: E501


class Trips:
    """The example in a workspace, beside the calculation of what its table must hold."""

    def __init__(self, workspace, place: str, read):
        self.workspace, self.place, self.read = workspace, place, read
        self.folder = workspace.copy_example("incremental-load")
        self.state = None

    def load(self, until: str | None = None) -> int:
        """Loads once more, checks everything, and gives how many rows were inserted or updated."""
        more = ["--input", f"until={until}"] if until else []
        execution = self.workspace.example("incremental-load", self.place, *more)["incremental-load"]
        files = sorted((self.folder / "data" / "trips").glob("*.csv"))
        self.state = expected.load(self.state, files, until)
        table = self.read(f"SELECT {COLUMNS} FROM taxi_trips")
        assert_same_rows(rows(table), rows(self.state.table.values()), ordered=False)
        result = outputs(execution)
        assert result["loaded_rows"]["value"] == self.state.inserted + self.state.updated
        assert pandas.Timestamp(result["watermark"]["value"]).tz_localize(None) == self.state.watermark
        daily = self.workspace.table(result["daily"])
        assert sum(daily.column("trips").to_pylist()) == len(self.state.table)
        return result["loaded_rows"]["value"]

    def arrive(self):
        for file in (self.folder / "data" / "later").glob("*.csv"):
            shutil.copy(file, self.folder / "data" / "trips")


@pytest.fixture
def trips(workspace, place):
    database = workspace.path("examples", "incremental-load", "out", "taxi.duckdb")
    return Trips(workspace, place, lambda query: database_rows(database, query))


def test_incremental_load_takes_only_what_is_new_or_has_changed(trips):
    text = readme("incremental-load")
    assert f"first run loads {trips.load()} trips" in text
    assert trips.load() == 0
    trips.arrive()
    assert f"`loaded_rows` is {trips.load()}." in text
    assert (trips.state.inserted, trips.state.updated) == (705, 16)
    assert "inserts 705 rows" in text and "updates 16" in text
    assert trips.load() == 0


def test_incremental_load_stops_at_the_bound(trips):
    assert f"later: {trips.load(until='2025-01-04T00:00:00')} rows" in readme("incremental-load")
    assert f"other {trips.load()}." in readme("incremental-load")


def test_incremental_load_stamps_only_rows_that_it_touched(workspace):
    database = workspace.path("examples", "incremental-load", "out", "taxi.duckdb")
    trips = Trips(workspace, "local", lambda query: database_rows(database, query))
    trips.load()
    stamps = database_rows(database, "SELECT DISTINCT loaded_at FROM taxi_trips")
    assert len(stamps) == 1
    trips.load()
    assert database_rows(database, "SELECT DISTINCT loaded_at FROM taxi_trips") == stamps
    trips.arrive()
    touched = trips.load()
    (newer,) = database_rows(database, f"SELECT count(*) FROM taxi_trips WHERE loaded_at > '{stamps[0][0]}'")
    assert newer == (touched,)


def test_incremental_load_takes_from_a_bucket_what_comes_later(workspace):
    database = workspace.path("examples", "incremental-load", "out", "taxi.duckdb")
    trips = Trips(workspace, "bucket", lambda query: database_rows(database, query))
    trips.load()
    trips.arrive()
    assert trips.load() == 721


def test_two_incremental_loads_at_once_take_turns(workspace):
    """One finds the database file locked, waits, and has nothing left to load."""
    workspace.copy_example("incremental-load")
    command = [*readme_command("incremental-load", "local"), "-o", "json"]
    processes = [workspace.start(command) for _ in range(2)]
    loaded = []
    for process in processes:
        out, err = process.communicate(timeout=100)
        assert process.returncode == 0, err
        loaded.append(outputs(Finished(0, out, err).execution())["loaded_rows"]["value"])
    assert sorted(loaded) == [0, 4900]
    database = workspace.path("examples", "incremental-load", "out", "taxi.duckdb")
    assert database_rows(database, "SELECT count(*), count(DISTINCT trip_id) FROM taxi_trips") == [(4900, 4900)]


def test_incremental_load_loads_into_postgresql_as_well(workspace, postgres):
    postgres.new_database(workspace.database)
    folder = workspace.copy_example("incremental-load")
    env = {"PINTAIL_SECRET_LAKE_PASSWORD": postgres.password}
    trips_folder, state = folder / "data" / "trips", None
    for arrived, count in [(False, 4900), (False, 0), (True, 721), (False, 0)]:
        if arrived:
            for file in (folder / "data" / "later").glob("*.csv"):
                shutil.copy(file, trips_folder)
        finished = workspace.pintail(
            "run", "examples/incremental-load", "examples/incremental-load/postgres", "-o", "json", env=env
        )
        assert finished.code == 0, finished
        state = expected.load(state, list(trips_folder.glob("*.csv")))
        assert outputs(finished.execution())["loaded_rows"]["value"] == count == state.inserted + state.updated
        with postgres.connect(workspace.database) as connection:
            table = connection.execute(f"SELECT {COLUMNS} FROM taxi_trips").fetchall()
        assert_same_rows(rows(table), rows(state.table.values()), ordered=False)


# --- join-and-export


def test_join_and_export_writes_ten_columns_and_copies_bytes(workspace, place):
    execution = workspace.example("join-and-export", place)["join-and-export"]
    detailed = expected.detailed(data("join-and-export"))
    assert len(detailed.columns) == 10
    assert_same(workspace.table(outputs(execution)["detailed"]), detailed)
    if place == "bucket":
        exported = workspace.buckets.get(workspace.bucket, "join-and-export/out/detailed/orders.csv")
        copied = workspace.buckets.get(workspace.bucket, "join-and-export/out/input/orders.csv")
    else:
        out = workspace.path("examples", "join-and-export", "out")
        exported, copied = (out / "detailed" / "orders.csv").read_bytes(), (out / "input" / "orders.csv").read_bytes()
    assert copied == (data("join-and-export") / "orders.csv").read_bytes()
    header, *lines = csv_text_rows(exported)
    assert header == list(detailed.columns)
    written = workspace.table(outputs(execution)["detailed"]).to_pylist()
    assert lines == [["" if value is None else str(value) for value in row.values()] for row in written]
    untitled = int(detailed.title.isna().sum())
    assert f"has {len(lines)} rows; {untitled} of them name" in readme("join-and-export")


# --- what all of them share


def test_parquet_has_the_types_of_the_query(workspace):
    execution = workspace.example("join-and-export", "local")["join-and-export"]
    schema = workspace.table(outputs(execution)["detailed"]).schema
    assert schema.field("order_id").type == pyarrow.int64()
    assert schema.field("ordered_at").type in (pyarrow.timestamp("us"), pyarrow.timestamp("us", tz="UTC"))
    assert schema.field("price").type == pyarrow.decimal128(10, 2)
    assert schema.field("quantity").type == pyarrow.int32()


def test_results_are_kept_in_a_bucket_when_the_store_is_one(workspace):
    store, env = workspace.bucket_store()
    executions = workspace.example("retail-summary", "local", "--store", store, env=env)
    retail = expected.retail(data("retail-summary"))
    output = outputs(executions["retail-summary"])["trends"]
    assert output["uri"].startswith(store)
    assert_same(workspace.table(output), retail.trends)
    assert not workspace.store.exists()
    listed = workspace.good("list", "--store", store, "-o", "name", env=env).out.split()
    assert len(listed) == 2


@pytest.mark.parametrize("example", sorted(path.parent.name for path in EXAMPLES.glob("*/generate.py")))
def test_lint_finds_nothing_wrong_with(example, workspace):
    workspace.copy_example(example)
    places = [path.name for path in (EXAMPLES / example).iterdir() if path.name in ("local", "bucket", "postgres")]
    for place in places:
        finished = workspace.pintail("lint", f"examples/{example}", f"examples/{example}/{place}")
        assert finished.code == 0, finished


def test_nothing_is_left_in_temporary_folders(workspace):
    workspace.example("retail-summary", "local")
    workspace.example("incremental-load", "local")
    assert list(workspace.path("temporary").iterdir()) == []


def test_generated_data_is_the_same_every_time(tmp_path):
    """What the READMEs promise holds on every machine."""
    import hashlib
    import importlib.util
    import sys

    sys.dont_write_bytecode = True
    for example in (
        "hello",
        "monthly-report",
        "mask-personal-data",
        "anomaly-check",
        "incremental-load",
        "join-and-export",
        "event-driven",
    ):
        spec = importlib.util.spec_from_file_location(example, EXAMPLES / example / "generate.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        (tmp_path / example).mkdir()
        module.generate(tmp_path / example)
        for file in sorted(path for path in (tmp_path / example).rglob("*") if path.is_file()):
            twin = data(example) / file.relative_to(tmp_path / example)
            if twin.exists():
                assert hashlib.sha256(file.read_bytes()).digest() == hashlib.sha256(twin.read_bytes()).digest(), twin

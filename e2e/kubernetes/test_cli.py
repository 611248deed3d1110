"""The commands of a laptop, on a cluster."""

import json

from cluster import condition, eventually
from scenarios import comparable, comparable_artifact


def pintail(installation, namespace: str, *arguments: str, code: int = 0) -> str:
    command = ["bin/pintail", *arguments, "-n", namespace]
    finished = installation.cluster.run(*command, check=False)
    assert finished.returncode == code, f"{command}: {finished.returncode}\n{finished.stdout}\n{finished.stderr}"
    return finished.stdout


def test_a_run_by_the_cli_is_that_of_a_manifest(on_cluster, installation):
    scenario, seen = on_cluster["hello"].result()
    said = pintail(installation, scenario.namespace, "run", "hello", "--name", "by-hand", "-o", "json")
    assert comparable(json.loads(said), {}) == seen.executions[0]
    said = pintail(installation, scenario.namespace, "watch", "by-hand", "-o", "name")
    assert said.strip().endswith("by-hand")


def test_results_and_logs_are_there_to_look_at(on_cluster, installation):
    scenario, seen = on_cluster["retail-summary"].result()
    namespace = scenario.namespace
    listed = pintail(installation, namespace, "list", "-o", "name").split()
    assert {name.rpartition("/")[2] for name in listed} >= {"recent-orders-0", "retail-summary-1", "retail-summary-2"}
    assert "trends" in pintail(installation, namespace, "get", "retail-summary-1")
    artifact = seen.raw[0]["status"]["outputs"][0]["artifact"]
    shown = json.loads(pintail(installation, namespace, "get", artifact, "-o", "json"))
    assert comparable_artifact(shown) == seen.artifacts[0]
    assert "SMALL POPCORN HOLDER" in pintail(installation, namespace, "preview", "retail-summary-1", "trends")
    count = pintail(
        installation, namespace, "preview", "recent-orders-0", "recent", "--sql", "SELECT count(*) AS n FROM result"
    )
    assert "19711" in count
    # The pods may be gone already; the log is in the store.
    assert pintail(installation, namespace, "logs", "retail-summary-1").strip()
    eventually(
        lambda: not [pod for pod in installation.cluster.pods(namespace) if "reader" in pod["metadata"]["name"]],
        "the end of reader pods",
        30,
    )


def test_a_retry_takes_over_what_is_equal(on_cluster, installation):
    scenario, _ = on_cluster["broken-report"].result()
    said = pintail(installation, scenario.namespace, "retry", "monthly-report-0", "-o", "json", code=1)
    execution = json.loads(said)
    assert execution["spec"]["retryOf"]["execution"] == "monthly-report-0"
    assert condition(execution, "Succeeded")["reason"] == "TaskFailed"


def test_a_run_is_cancelled_with_its_pods(held, installation, gate):
    pintail(installation, held, "run", "held", "--name", "stopped", "--detach")
    assert gate.reached.wait(60), installation.cluster.describe(held)
    pintail(installation, held, "cancel", "stopped")
    execution = installation.finished(held, "stopped")
    assert condition(execution, "Succeeded")["reason"] == "Cancelled"
    states = {entry["name"]: entry["state"] for entry in execution["status"]["taskList"]}
    assert states == {"before": "Cancelled", "after": "Cancelled"} or states["before"] == "Cancelled", states

    def running():
        return [pod for pod in installation.cluster.pods(held) if pod["status"].get("phase") == "Running"]

    eventually(lambda: not running(), "the end of the run's pods", 60)


def test_the_doctor_finds_nothing_wrong(held, installation):
    assert pintail(installation, held, "doctor").strip()

"""What a user sees: the README's three commands, and what kubectl shows."""

import re
import shlex

import yaml
from cluster import ROOT, condition, eventually
from installation import readme_commands

COLUMNS = {
    "workflow": "NAME READY REASON TASKS AGE MESSAGE",
    "execution": "NAME STATUS PROGRESS DURATION AGE WORKFLOW MESSAGE",
    "artifact": "NAME READY ROWS SIZE CREATED-BY AGE URI",
    "connection": "NAME READY TYPE AGE REASON MESSAGE",
}


def test_the_three_commands_of_the_readme_give_a_finished_execution(new_namespace, installation, tmp_path):
    """The first was done for all tests."""
    namespace = new_namespace("readme")
    cluster = installation.cluster
    kubeconfig = yaml.safe_load(open(cluster.environment["KUBECONFIG"]))
    for context in kubeconfig["contexts"]:
        context["context"]["namespace"] = namespace
    place = tmp_path / "kubeconfig"
    place.write_text(yaml.safe_dump(kubeconfig))
    cluster = type(cluster)(cluster.environment | {"KUBECONFIG": str(place)})
    _, apply, watch = readme_commands()
    said = cluster.run(*apply).stdout
    assert "execution.pintail.dev/hello created" in said
    said = cluster.run(*watch).stdout
    assert "execution.pintail.dev/hello condition met" in said
    execution = installation.finished(namespace, "hello")
    assert condition(execution, "Succeeded")["status"] == "True"

    def phases():
        return [pod["status"]["phase"] for pod in installation.cluster.pods(namespace)]

    eventually(lambda: phases() == ["Succeeded"], lambda: f"a pod that succeeded: {phases()}")


def test_the_chart_says_what_comes_next(installation):
    assert len(re.findall(r"^ *(kubectl|pintail|bin/pintail|helm) ", installation.notes, re.MULTILINE)) >= 3


def test_kubectl_shows_what_matters(on_cluster, installation):
    scenario, _ = on_cluster["retail-summary"].result()
    shown = installation.cluster.kubectl("get", "ptwf,ptex,ptart,ptcn", "-o", "wide", "-n", scenario.namespace)
    tables = {}
    for block in shown.strip().split("\n\n"):
        header, *lines = block.splitlines()
        kind = lines[0].split(".")[0]
        assert " ".join(header.split()) == COLUMNS[kind], shown
        starts = [match.start() for match in re.finditer(r"\S+", header)]
        ends = [*starts[1:], None]
        tables[kind] = [
            {
                header[start:end].strip(): line[start:end].strip()
                for start, end in zip(starts, ends, strict=True)
            }
            for line in lines
        ]  # fmt: skip
    assert {row["READY"] for row in tables["workflow"]} == {"True"}, shown
    assert {row["TASKS"] for row in tables["workflow"]} == {"1", "4"}, shown
    executions = {row["NAME"].rpartition("/")[2]: row for row in tables["execution"]}
    assert executions["retail-summary-1"]["STATUS"] == "Succeeded", shown
    assert executions["retail-summary-1"]["PROGRESS"] == "4/4", shown
    assert executions["retail-summary-1"]["WORKFLOW"] == "retail-summary", shown
    assert re.fullmatch(r"(\d+(ms|[hms]))+", executions["retail-summary-1"]["DURATION"]), shown
    artifacts = {row["CREATED-BY"]: row for row in tables["artifact"]}
    assert artifacts["recent-orders-0"]["ROWS"] == "19711", shown
    assert artifacts["recent-orders-0"]["URI"].startswith("s3://pintail-store/results/"), shown
    assert {row["TYPE"] for row in tables["connection"]} == {"s3", "duckdb", "smtp"}, shown


def test_every_kind_is_listed_by_its_category(on_cluster, installation):
    scenario, _ = on_cluster["retail-summary"].result()
    shown = installation.cluster.kubectl("get", "pintail", "-n", scenario.namespace, "-o", "name").split()
    assert {name.partition(".")[0] for name in shown} == set(COLUMNS)


def test_the_commands_of_the_examples_are_taken_as_they_stand(new_namespace, installation):
    """The API server checks the manifests; other tests run them."""
    namespace = new_namespace("examples")
    for readme in sorted((ROOT / "examples").glob("*/README.md")):
        line = next(line for line in readme.read_text().splitlines() if line.startswith("kubectl apply"))
        for command in line.split(" && "):
            said = installation.cluster.run(*shlex.split(command), "-n", namespace, "--dry-run=server").stdout
            assert said.endswith("(server dry run)\n"), said

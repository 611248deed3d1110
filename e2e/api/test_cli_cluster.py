"""`pintail` on a cluster that has no operator: what it asks, prints and answers. The tests write what an operator would."""

import json
import signal

import pytest
from api_server import eventually

WORKFLOW = {
    "apiVersion": "pintail.dev/v1alpha1",
    "kind": "Workflow",
    "metadata": {"name": "two"},
    "spec": {
        "inputs": [{"name": "factor", "type": "BIGINT", "default": 2}],
        "tasks": [
            {"name": "base", "duckdb": {"query": "SELECT i FROM range(10) t(i)"}},
            {
                "name": "scaled",
                "uses": ["base", "factor"],
                "duckdb": {"query": "SELECT i, i * $factor AS product FROM base"},
            },
        ],
    },
}
CONDITIONS = {"Running": "Unknown", "WorkflowMissing": "Unknown", "Succeeded": "True"}


def status(reason: str, tasks: dict[str, str], message: str = "", **more) -> dict:
    condition = {
        "type": "Succeeded",
        "status": CONDITIONS.get(reason, "False"),
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-11-20T10:00:00Z",
    }
    listed = [{"name": name, "state": state, "attempt": 1, "duration": "3s"} for name, state in tasks.items()]
    return {"conditions": [condition], "startTime": "2026-11-20T10:00:00Z", "taskList": listed, **more}


def execution(name: str, **spec) -> dict:
    return {
        "apiVersion": "pintail.dev/v1alpha1",
        "kind": "Execution",
        "metadata": {"name": name},
        "spec": {"workflowRef": {"name": "two"}, **spec},
    }


@pytest.fixture
def pintail(workspace, namespace):
    """Runs the program against the namespace."""

    def run(*arguments: str):
        return workspace.pintail(*arguments, *namespace.flags)

    return run


@pytest.fixture
def started(workspace, namespace):
    """Starts `pintail run two` and gives the process and the Execution that it made."""
    namespace.apply(WORKFLOW)
    processes = []

    def start(*arguments: str):
        processes.append(workspace.start(["bin/pintail", "run", "two", *arguments, *namespace.flags]))
        (name,) = eventually(lambda: namespace.names("executions.pintail.dev"))
        return processes[0], name

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def ended(process) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


def test_a_run_is_shown_on_a_cluster_as_on_this_machine(workspace, namespace, pintail):
    workspace.write("two/workflow.json.yaml", json.dumps(WORKFLOW))
    local = workspace.good("run", "two", "--input", "factor=3", "-o", "json").execution()
    name = local["metadata"]["name"]
    namespace.apply({**execution(name), "spec": local["spec"]})
    namespace.write_status(name, local["status"])
    assert pintail("get", name).out == workspace.good("get", name).out
    assert pintail("get", "@latest").out == workspace.good("get", "@latest").out
    there = json.loads(pintail("get", name, "-o", "json").out)
    assert there["status"] == local["status"]
    assert "managedFields" not in there["metadata"]
    assert pintail("list", "-o", "name").out == f"{name}\n"
    (here_row, there_row) = (workspace.good("list").out, pintail("list").out)
    assert here_row.split()[:8] == there_row.split()[:8]
    assert json.loads(pintail("list", "artifacts", "-o", "json").out)["items"] == []


def test_a_run_is_followed_to_its_end(namespace, started):
    process, name = started("--input", "factor=3")
    assert namespace.get("executions.pintail.dev", name)["spec"]["inputs"] == {"factor": 3}
    namespace.write_status(name, status("Running", {"base": "Running", "scaled": "Waiting"}))
    outputs = [{"name": "scaled", "type": "table", "uri": "s3://lake/x.parquet", "rows": 10, "bytes": 812}]
    done = status("Succeeded", {"base": "Succeeded", "scaled": "Succeeded"}, outputs=outputs)
    namespace.write_status(name, done)
    code, out, err = ended(process)
    assert code == 0, err
    assert "s3://lake/x.parquet" in out
    assert f"two  {name}" in err and "scaled  Succeeded  3s" in err


def test_a_run_that_fails_gives_code_1_and_says_what_to_do_there(namespace, started):
    process, name = started()
    failure = {"task": "scaled", "attempt": 1, "reason": "BinderError", "message": "no column of that name"}
    namespace.write_status(name, status("TaskFailed", {"base": "Succeeded", "scaled": "Failed"}, failures=[failure]))
    code, out, err = ended(process)
    assert (code, out) == (1, "")
    assert "task scaled: BinderError\nno column of that name" in err
    assert f"-n {namespace.name} {name}" in err and "pintail retry --context" in err


def test_what_a_run_waits_for_is_told(namespace, started):
    process, name = started()
    namespace.write_status(name, status("WorkflowMissing", {}, "there is no Workflow two"))
    eventually(lambda: "waiting: WorkflowMissing: there is no Workflow two" in process.stderr.readline())
    namespace.write_status(name, status("StartDeadlineExceeded", {}, "waited 10m for Workflow two"))
    code, _, err = ended(process)
    assert code == 1 and "waited 10m for Workflow two" in err


def test_a_run_that_takes_too_long_goes_on_without_the_command(namespace, started):
    process, name = started("--wait-timeout", "1s")
    code, _, err = ended(process)
    assert code == 4
    assert "has not ended in time" in err and "pintail watch --context" in err
    assert "cancel" not in namespace.get("executions.pintail.dev", name)["spec"]


def test_ctrl_c_lets_go_of_a_run_and_a_second_one_cancels_it(namespace, started):
    process, name = started()
    eventually(lambda: name in process.stderr.readline())
    process.send_signal(signal.SIGINT)
    eventually(lambda: "once more" in process.stderr.readline())
    process.send_signal(signal.SIGINT)
    eventually(lambda: namespace.get("executions.pintail.dev", name)["spec"].get("cancel"))
    namespace.write_status(name, status("Cancelled", {"base": "Cancelled", "scaled": "Cancelled"}))
    assert ended(process)[0] == 130


def test_one_ctrl_c_leaves_a_run_as_it_is(namespace, started):
    process, name = started()
    eventually(lambda: name in process.stderr.readline())
    process.send_signal(signal.SIGINT)
    code, _, err = ended(process)
    assert code == 130 and "pintail watch --context" in err and "pintail cancel --context" in err
    assert "cancel" not in namespace.get("executions.pintail.dev", name)["spec"]


def test_a_run_that_is_deleted_ends_the_command(namespace, started):
    process, name = started()
    eventually(lambda: name in process.stderr.readline())
    namespace.kubectl("delete", "executions.pintail.dev", name)
    code, _, err = ended(process)
    assert code == 1 and "was deleted" in err


def test_a_detached_run_is_found_again_cancelled_and_retried(namespace, pintail):
    namespace.apply(WORKFLOW)
    detached = pintail("run", "two", "--input", "factor=5", "--name", "first", "--detach")
    assert (detached.code, detached.out) == (0, "first\n")
    again = pintail("run", "two", "--name", "first", "--detach")
    assert again.code == 1 and "already exists" in again.err
    assert pintail("cancel", "@latest").code == 0
    assert namespace.get("executions.pintail.dev", "first")["spec"]["cancel"] is True
    namespace.write_status("first", status("Cancelled", {"base": "Cancelled"}))
    assert pintail("watch", "first").code == 130
    assert "has ended already: Cancelled" in pintail("cancel", "first").err
    retry = pintail("retry", "first", "--detach", "-o", "json")
    spec = json.loads(retry.out)["spec"]
    assert spec == {"workflowRef": {"name": "two"}, "inputs": {"factor": 5}, "retryOf": {"execution": "first"}}


def test_a_dry_run_is_checked_by_the_cluster_and_creates_nothing(namespace, pintail):
    namespace.apply(WORKFLOW)
    checked = pintail("run", "two", "--dry-run", "-o", "json")
    assert checked.code == 0 and json.loads(checked.out)["metadata"]["uid"]
    refused = pintail("run", "two", "--dry-run", "--name", "Not_A_Name")
    assert refused.code == 1 and "Not_A_Name" in refused.err
    assert namespace.names("executions.pintail.dev") == []


def test_wrong_names_inputs_and_files_are_told_before_anything_is_created(workspace, namespace, pintail):
    namespace.apply(WORKFLOW)
    namespace.apply(execution("two-aaaaa"))
    workspace.write("two.yaml", "")
    wrong = {
        ("run", "twoo"): (1, 'did you mean "two"?'),
        ("run", "two", "--input", "facto=1"): (2, "there is no such input; there are: factor"),
        ("run", "two", "--input", "factor=x"): (2, "spec.inputs.factor"),
        ("run", "two.yaml"): (2, "apply -f two.yaml"),
        ("run", "two", "three"): (2, "one Workflow at a time"),
        ("get", "two-aaaab"): (1, 'did you mean "two-aaaaa"?'),
        ("get", "../secrets/x"): (1, "there is no run"),
        ("watch", "nothing"): (1, f'in namespace "{namespace.name}" of context'),
        ("list", "--context", "prod"): (2, "the kubeconfig has no context"),
        ("list", "--store", "here"): (2, "--store is for runs on this machine"),
        ("run", "two", "--workflow", "two"): (2, "cannot be used with"),
        ("preview", "two-aaaaa"): (1, "no committed table"),
        ("logs", "two-aaaaa", "--task", "scaled"): (2, "the run has no task"),
    }
    for arguments, (code, words) in wrong.items():
        finished = pintail(*arguments)
        assert finished.code == code and words in finished.err, f"{arguments}: {finished}"
    assert workspace.pintail("run", "two.yaml", "--detach").code == 2
    assert namespace.names("executions.pintail.dev") == ["two-aaaaa"]


def test_a_cluster_that_is_not_there_gives_code_3_and_one_line(workspace, namespace):
    kubeconfig = json.loads(namespace.server.kubectl("config", "view", "--raw", "-o", "json"))
    kubeconfig["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    path = workspace.write("kubeconfig", json.dumps(kubeconfig))
    for command in (["list"], ["run", "two"], ["get", "x"], ["watch", "x"], ["cancel", "x"], ["doctor"]):
        finished = workspace.pintail(*command, "--kubeconfig", str(path))
        assert finished.code == 3, finished
        assert finished.err.count("\n") == 1 and "https://127.0.0.1:1" in finished.err, finished


def test_a_right_that_is_missing_is_named(workspace, namespace):
    namespace.kubectl("create", "serviceaccount", "guest")
    namespace.kubectl("create", "role", "reader", "--verb=get,list,watch", "--resource=executions.pintail.dev,workflows.pintail.dev")
    namespace.kubectl("create", "rolebinding", "guest", "--role=reader", f"--serviceaccount={namespace.name}:guest")
    namespace.apply(WORKFLOW)
    kubeconfig = json.loads(namespace.server.kubectl("config", "view", "--raw", "-o", "json"))
    token = namespace.kubectl("create", "token", "guest").strip()
    kubeconfig["users"] = [{"name": kubeconfig["users"][0]["name"], "user": {"token": token}}]
    path = workspace.write("kubeconfig", json.dumps(kubeconfig))
    flags = ["--kubeconfig", str(path), "-n", namespace.name]
    assert workspace.pintail("list", *flags).code == 0
    refused = workspace.pintail("run", "two", *flags)
    assert refused.code == 1
    assert f'not allowed to create executions.pintail.dev in namespace "{namespace.name}"' in refused.err
    checks = json.loads(workspace.pintail("doctor", "-o", "json", *flags).out)["checks"]
    rights = [check["message"] for check in checks if check["check"] == "rights" and check["result"] == "Bad"]
    assert any("not allowed to create, patch executions.pintail.dev" in message for message in rights)
    kubeconfig["users"][0]["user"] = {"token": "wrong"}
    workspace.write("kubeconfig", json.dumps(kubeconfig))
    unknown = workspace.pintail("list", *flags)
    assert unknown.code == 1 and "does not accept the credentials" in unknown.err


def test_doctor_says_what_is_good_bad_and_not_known(pintail):
    finished = pintail("doctor", "-o", "json")
    checks = json.loads(finished.out)["checks"]
    results = {check["check"]: check["result"] for check in checks}
    assert results == {
        "kubernetes": "Good", "resources": "Good", "versions": "Good", "rights": "Good",
        "operator": "Bad", "store": "Skipped",
    }  # fmt: skip
    assert finished.code == 1


def test_a_reader_pod_keeps_to_the_restricted_standard_and_goes_with_ctrl_c(workspace, namespace):
    namespace.kubectl("label", "namespace", namespace.name, "pod-security.kubernetes.io/enforce=restricted")
    namespace.kubectl("create", "serviceaccount", "pintail-runner")
    namespace.apply(execution("two-aaaaa"))
    resolved = {
        "revision": "two-1",
        "runnerImage": "registry.example/runner:1",
        "store": "s3://lake/store",
        "reader": {
            "serviceAccount": "pintail-runner",
            "secretName": "pintail-store",
            "environment": {"AWS_ENDPOINT_URL": "http://10.0.0.1:9000/$(x)"},
        },
    }
    uri = f"s3://lake/store/{namespace.name}/runs/u/scaled/a1/p/result.parquet"
    outputs = [{"name": "scaled", "type": "table", "uri": uri, "rows": 10, "bytes": 812}]
    namespace.write_status("two-aaaaa", status("Succeeded", {"scaled": "Succeeded"}, outputs=outputs, resolved=resolved))
    process = workspace.start(["bin/pintail", "preview", "@latest", "scaled", *namespace.flags])
    try:
        (name,) = eventually(lambda: namespace.names("pods"))
        pod = namespace.get("pod", name)
        (container,) = pod["spec"]["containers"]
        variables = {variable["name"]: variable["value"] for variable in container["env"]}
        assert variables["AWS_ENDPOINT_URL"] == "http://10.0.0.1:9000/$$(x)" and variables["PINTAIL_READ_REQUEST"]
        assert container["image"] == "registry.example/runner:1"
        assert container["envFrom"] == [{"secretRef": {"name": "pintail-store"}}]
        assert pod["metadata"]["ownerReferences"][0]["name"] == "two-aaaaa"
        process.send_signal(signal.SIGINT)
        assert ended(process)[0] == 130
        assert namespace.names("pods") == []
    finally:
        process.kill()
        process.communicate()

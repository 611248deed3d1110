"""What is wrong with LaunchPlans: each is refused by `lint`, with its rule and its place, before anything could fire."""

import json

import pytest

from spoiled import RAW, RIDES, refused

WORKFLOW = RIDES.replace(
    "  tasks:\n", "    - name: least\n      type: BIGINT\n      default: 0\n  tasks:\n"
) + """
  outputs:
    - name: longest
      value: $(tasks.longest)
      publish:
        artifact: longest_rides
"""

PLAN = """\
apiVersion: pintail.dev/v1alpha1
kind: LaunchPlan
metadata:
  name: rides
spec:
  workflowRef:
    name: rides
  inputs:
    least: 1
  triggers:
    - name: nightly
      schedule:
        cron: 0 2 * * *
        timeZone: Europe/Paris
      inputs:
        least: 2
    - name: published
      artifacts:
        - name: new_rides
          where: $(artifact.rows > 0)
      inputs:
        rides: $(trigger.artifacts.new_rides)
    - name: arrivals
      object:
        connection: raw
        path: rides-*.csv
      inputs:
        rides: $(trigger.object)
    - name: hook
      event:
        type: com.example.ride
        connection: hook
"""

HOOK = """
apiVersion: pintail.dev/v1alpha1
kind: Connection
metadata:
  name: hook
spec:
  webhook:
    signingKeyFrom:
      secretKeyRef:
        name: hook
        key: signing-key
"""


def lint(workspace, plan: str, workflow: str = WORKFLOW):
    workspace.write("plans/workflow.yaml", workflow)
    workspace.write("plans/plan.yaml", plan)
    workspace.write("plans/hook.yaml", HOOK)
    workspace.write("local/raw.yaml", RAW)
    return workspace.pintail("lint", "plans", "local", "-o", "json")


def test_a_plan_that_is_right(workspace):
    finished = lint(workspace, PLAN)
    assert finished.code == 0, finished
    assert json.loads(finished.out)["problems"] == []


# What is changed, into what; the rule; the text at whose beginning the problem is shown; words of the message.
SPOILED = {
    "a date that never comes": ("0 2 * * *", "0 2 30 2 *", "invalid-schedule", "0 2 30 2 *", "never"),
    "a field out of range": ("0 2 * * *", "61 2 * * *", "invalid-schedule", "61 2 * * *", "minute"),
    "six fields": ("0 2 * * *", "0 0 2 * * *", "invalid-schedule", "0 0 2 * * *", ""),
    "an unknown zone": ("Europe/Paris", "Europe/Pari", "invalid-schedule", "Europe/Pari", "Europe/Paris"),
    "an unknown Workflow": ("    name: rides\n  inputs", "    name: ridse\n  inputs", "unknown-name", "ridse", "rides"),
    "an unknown input": ("    least: 1", "    leest: 1", "unknown-input", "1\n  triggers", "least"),
    "an unknown input of a trigger": ("least: 2", "leest: 2", "unknown-input", "2\n    - name", "least"),
    "an input of another type": ("least: 2", "least: many", "invalid-value", "many", "BIGINT"),
    "a value where a table is meant": (
        "$(trigger.object)", "$(trigger.object.path)", "invalid-value", "$(trigger.object.path)", "table",
    ),
    "a table where a value is meant": (
        "rides: $(trigger.object)", "least: $(trigger.object)", "invalid-value", "$(trigger.object)", "BIGINT",
    ),
    "an expression for all runs of a plan": (
        "    least: 1", "    least: $(trigger.time)", "scope-not-allowed", "$(trigger.time)", "trigger",
    ),
    "two triggers of one name": ("name: published", "name: nightly", "duplicate-name", "nightly\n      artifacts", "two"),
    "a connection that is missing": ("connection: raw", "connection: rwa", "unknown-connection", "rwa", "raw"),
    "a connection of another kind": ("connection: hook", "connection: raw", "unfit-connection", "raw\n", "key of a webhook"),
    "an unknown field of the trigger": (
        "least: 2", "least: $(trigger.interval.begin)", "unknown-reference", "trigger.interval.begin", "start",
    ),
    "a field of another kind of trigger": (
        "least: 2", "least: $(trigger.object.bytes)", "unknown-reference", "trigger.object.bytes", "interval",
    ),
    "a condition that is none": (
        "$(artifact.rows > 0)", "$(artifact.rows)", "expression-type", "$(artifact.rows)", "true or false",
    ),
    "a condition over something else": (
        "$(artifact.rows > 0)", "$(trigger.rows > 0)", "scope-not-allowed", "trigger.rows", "artifact",
    ),
    "a dataset that starts what publishes it": (
        "name: new_rides\n          where: $(artifact.rows > 0)\n      inputs:\n        rides: $(trigger.artifacts.new_rides)",
        "name: longest_rides",
        "trigger-cycle", "triggers:\n    - name", "rides -> rides",
    ),
    "a path that leaves the connection": ("rides-*.csv", "../rides-*.csv", "invalid-path", "../rides", ".."),
}  # fmt: skip


def place(text: str, needle: str) -> tuple[int, int]:
    at = text.rindex(needle) if needle.startswith("$") or "\n" in needle else text.index(needle)
    return text.count("\n", 0, at) + 1, at - (text.rfind("\n", 0, at) + 1) + 1


@pytest.mark.parametrize("what", SPOILED)
def test_a_plan_with(what, workspace):
    old, new, rule, at, words = SPOILED[what]
    assert PLAN.count(old) == 1, PLAN.count(old)
    plan = PLAN.replace(old, new)
    finished = lint(workspace, plan)
    assert finished.code == 1, finished
    problems = json.loads(finished.out)["problems"]
    assert [problem["rule"] for problem in problems] == [rule], problems
    (problem,) = problems
    assert problem["file"] == "plans/plan.yaml"
    assert (problem["line"], problem["column"]) == place(plan, at), problem
    assert words in f"{problem['message']} {problem['suggestion']}", problem


def test_more_triggers_than_a_plan_may_have(workspace):
    triggers = "".join(f"    - name: t{n}\n      schedule:\n        cron: {n} 2 * * *\n" for n in range(21))
    head = PLAN[: PLAN.index("    - name: nightly")]
    finished = lint(workspace, head + triggers)
    assert finished.code == 1, finished
    (problem,) = json.loads(finished.out)["problems"]
    assert problem["rule"] == "out-of-range" and problem["path"] == "spec.triggers", problem
    assert "20" in problem["message"], problem


def test_plans_that_start_each_other(workspace):
    """rides publishes longest_rides, which starts best, which publishes new_rides, which starts rides."""
    other = WORKFLOW.replace("name: rides\nspec", "name: best\nspec").replace("longest_rides", "new_rides")
    workspace.write("plans/best.yaml", other)
    workspace.write(
        "plans/best-plan.yaml",
        PLAN[: PLAN.index("    - name: nightly")].replace("name: rides", "name: best")
        + "    - name: published\n      artifacts:\n        - name: longest_rides\n",
    )
    finished = lint(workspace, PLAN.replace("          where: $(artifact.rows > 0)\n", ""))
    problems = json.loads(finished.out)["problems"]
    assert [(problem["file"], problem["rule"]) for problem in problems] == [
        ("plans/best-plan.yaml", "trigger-cycle"),
        ("plans/plan.yaml", "trigger-cycle"),
    ]
    assert "rides -> best -> rides" in problems[1]["message"]


def test_serve_refuses_what_lint_refuses(workspace):
    lint(workspace, PLAN.replace("0 2 * * *", "0 2 30 2 *"))
    refused(workspace.pintail("serve", "plans", "local"), r"plans/plan\.yaml:13:15", "invalid-schedule")
    refused(workspace.pintail("next", "rides", "plans", "local"), "invalid-schedule")

"""The chart's rights are enough, since every test here runs with them; and they are those that people have reviewed."""

import re
from pathlib import Path

from installation import SYSTEM

REVIEWED = Path(__file__).resolve().parent / "rights.txt"
OPERATOR = f"system:serviceaccount:{SYSTEM}:pintail-operator"
# What everyone who is known to the API server may do.
EVERYONE = re.compile(r"^(self\w+\.|\s|.*\[/\S+)")


def rights(cluster, account: str, namespace: str) -> list[str]:
    shown = cluster.kubectl("auth", "can-i", "--list", "--as", account, "-n", namespace)
    return sorted(" ".join(line.split()) for line in shown.splitlines()[1:] if not EVERYONE.match(line))


def test_rights_are_the_reviewed_ones(installation, new_namespace):
    namespace = new_namespace("rights")
    parts = {
        "operator, in its own namespace": rights(installation.cluster, OPERATOR, SYSTEM),
        "operator, elsewhere": rights(installation.cluster, OPERATOR, namespace),
        "task pods": rights(installation.cluster, f"system:serviceaccount:{namespace}:pintail-runner", namespace),
    }
    text = "\n\n".join("\n".join([f"# {name}", *lines]) for name, lines in parts.items()) + "\n"
    assert text == REVIEWED.read_text(), f"review what has changed, then write rights.txt:\n{text}"


def test_nobody_of_ours_reads_secrets(installation, new_namespace):
    namespace = new_namespace("secrets")
    for account in (OPERATOR, f"system:serviceaccount:{namespace}:pintail-runner"):
        for verb in ("get", "list", "watch"):
            for place in (["-n", namespace], ["-n", SYSTEM], ["-A"]):
                command = ["kubectl", "auth", "can-i", verb, "secrets", "--as", account, *place]
                assert installation.cluster.run(*command, check=False).stdout.strip() == "no", command

import functools
import os
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "pintail"
CASES = ROOT / "e2e" / "chart" / "cases"


class Helm:
    """Helm, from the programs that `scripts/cluster build` makes; needs no cluster."""

    def __init__(self):
        built = subprocess.run([ROOT / "scripts" / "cluster", "build"], stdout=subprocess.PIPE, text=True, check=True)
        self.program = Path(built.stdout.strip()) / "helm"

    def run(self, *arguments) -> subprocess.CompletedProcess:
        # Settings and plugins of whoever runs the tests stay out.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("HELM_", "KUBE"))}
        command = [self.program, *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def template(self, *arguments) -> subprocess.CompletedProcess:
        """The chart as it is installed in namespace pintail-system of the oldest Kubernetes it supports."""
        place = ["pintail", CHART, "--namespace", "pintail-system", "--kube-version", "1.34.0"]
        return self.run("template", *place, *arguments)

    @functools.cache  # noqa: B019: the one instance lives as long as the tests
    def text(self, case: str, *arguments) -> str:
        done = self.template("--values", CASES / f"{case}.yaml", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def objects(self, case: str, *arguments) -> list[dict]:
        return [thing for thing in yaml.safe_load_all(self.text(case, *arguments)) if thing]

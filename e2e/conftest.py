"""How the tests are shared among processes."""

from pathlib import Path

from xdist.scheduler import LoadFileScheduling

E2E = Path(__file__).parent


class Sharing(LoadFileScheduling):
    """Tests that share what is slow to make run in one process: a cluster, the runs of `on_cluster`, images, a chart."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        folder, _, name = file.partition("/")
        if folder == "kubernetes":
            return "on_cluster" if "on_cluster" in (E2E / file).read_text() else file
        if folder in ("api", "chart"):
            return folder
        return file if name == "test_images.py" else nodeid


def pytest_xdist_make_scheduler(config, log):
    return Sharing(config, log)

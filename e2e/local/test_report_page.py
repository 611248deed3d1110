"""The report page in a real browser, without a network."""

import re
import shutil
import subprocess

import pytest

from workspace import outputs

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Every name and address is unknown: whatever the page wanted to load would be missing.
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--proxy-server=127.0.0.1:9",
    "--window-size=1200,2400",
    "--virtual-time-budget=20000",
]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Gives the document of a page as the browser sees it once all scripts have run."""
    if CHROMIUM is None:
        pytest.skip("chromium is missing: as root, apt-get install chromium")

    def draw(page):
        profile = tmp_path_factory.mktemp("profile")
        finished = subprocess.run(
            [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "--dump-dom", page.as_uri()],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    return draw


@pytest.fixture
def page(workspace, tmp_path):
    executions = workspace.example("retail-summary", "local")
    path = tmp_path / "page.html"
    path.write_bytes(workspace.bytes_at(outputs(executions["retail-summary"])["summary"]["uri"]))
    return path


def test_the_page_draws_four_charts_without_a_network(page, drawn):
    document = drawn(page)
    (root,) = re.findall(r"<html[^>]*>", document)
    assert 'data-charts="drawn"' in root, root
    charts = re.findall(r"<svg.*?</svg>", document, re.DOTALL)
    assert len(charts) == 4
    months, changes, elasticities, segments = charts
    assert len(marks(months, "line")) == 2
    assert len(marks(changes, "rect")) == 32
    assert len(marks(elasticities, "symbol")) == 31
    assert len(marks(segments, "rect")) == 4
    for name in ("last_year", "this_year", "POPCORN", "Champions"):
        assert name in document


def marks(chart: str, kind: str) -> list[str]:
    """The drawn marks of a chart in Vega's SVG: the paths of its mark groups, without axes and legends."""
    groups = re.findall(rf'<g class="mark-{kind} role-mark[^"]*".*?</g>', chart, re.DOTALL)
    return [path for group in groups for path in re.findall(r"<path[^>]*>", group)]


def test_the_page_loads_nothing_from_elsewhere(page):
    text = page.read_text()
    assert not re.findall(r"""<(?:script|img|iframe)[^>]+src=["']?http""", text)
    assert not re.findall(r"""<link[^>]+href=["']?http""", text)
    assert "@import" not in text


def test_what_data_holds_is_shown_as_text_and_not_obeyed(workspace, tmp_path, drawn):
    """A product's name may be anything, also something that would be a script if the page believed it."""
    workspace.write(
        "evil/workflow.yaml",
        """
apiVersion: pintail.dev/v1alpha1
kind: Workflow
metadata:
  name: evil
spec:
  tasks:
    - name: products
      duckdb:
        query: |
          SELECT * FROM (VALUES ('</script><script>document.title="caught"</script>', 1),
                                ('<img src=x onerror=document.title="caught">', 2)) t(title, amount)
    - name: page
      uses: [products]
      report:
        title: "</title><script>document.title='caught'</script>"
        text: "<b onclick=alert(1)>bold</b>"
        charts:
          - table: products
            mark: Bar
            xColumn: title
            yColumns: [amount]
        tables:
          - table: products
""",
    )
    execution = workspace.good("run", "evil", "-o", "json").execution()
    path = tmp_path / "evil.html"
    path.write_bytes(workspace.bytes_at(outputs(execution)["page"]["uri"]))
    document = drawn(path)
    assert 'data-charts="drawn"' in document
    assert "<title>caught</title>" not in document
    assert "<img src=" not in document.replace("&lt;img", "")
    assert "<b onclick" not in document

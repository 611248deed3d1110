"""Local = cluster: every example by `pintail run`, and by the operator with pods."""

import pytest
from scenarios import SCENARIOS, assert_equal


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_cluster_gives_what_a_laptop_gives(name, on_cluster, locally, installation, record_property):
    scenario, seen = on_cluster[name].result()
    assert_equal(seen, locally[name].result())
    record_property("equal", f"{len(seen.executions)} runs, {len(seen.tables)} tables, {len(seen.artifacts)} artifacts")

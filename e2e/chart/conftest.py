import pytest
from helm import Helm


@pytest.fixture(scope="session")
def helm() -> Helm:
    return Helm()

"""Real small models for the questions of `parts`."""

import pytest

from tests.unit.decisions.parts import TEXTS, trained


@pytest.fixture(scope="session")
def team_model():
    """Sure of the texts above, unsure of words it has not seen."""
    return trained(list(TEXTS))


@pytest.fixture(scope="session")
def urgent_model():
    """Two classes, as a classifier of booleans names them."""
    return trained(["False", "True", "False"])


@pytest.fixture(scope="session")
def anger_model():
    """Ordered classes."""
    return trained(["0", "1", "2"])

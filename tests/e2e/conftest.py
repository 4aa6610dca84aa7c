"""One running product for all these tests: `up` with real agents and the real engine."""

import re

import pytest

from tests.e2e.fleet import Fleet, wait_until
from tests.product import Product


@pytest.fixture(scope="package")
def fleet():
    """Five nodes that are connected and have said what they can do."""
    with Product(agents=5) as product, Fleet(product) as fleet:
        wait_until(lambda: len(fleet.eligible_nodes()) == 5, 120, "the nodes took no work")
        yield fleet


@pytest.fixture
def job_name(fleet, request):
    """Give a name that only this test uses; its job is deleted when the test ends."""
    words = re.findall(r"[a-z0-9]+", request.node.name.removeprefix("test_"))
    name = "-".join(words)
    yield name
    fleet.delete_if_there(name)


@pytest.fixture(scope="package")
def steady(fleet):
    """A pipeline that is on every node; the tests roll out its next versions."""
    fleet.run_first_version("steady")
    yield "steady"
    fleet.delete_if_there("steady")

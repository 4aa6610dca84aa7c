"""The page of a rollout: what it shows, to whom, and what its buttons do."""

import pytest

from tests.rollouts import fleet

pytestmark = pytest.mark.django_db


@pytest.fixture
def canary(cast):
    """A second version whose canary is out, on 6 nodes."""
    fleet.make_nodes(6)
    fleet.completed(fleet.spec_of(mark="v1"))
    return fleet.start(fleet.spec_of(mark="v2"), reason="CHG-4417")


def test_the_page_shows_job_versions_waves_and_nodes(canary, page_as):
    text = page_as("vera").get(f"/rollouts/{canary.pk}/").content.decode()
    assert "log-shipper" in text
    assert "CHG-4417" in text

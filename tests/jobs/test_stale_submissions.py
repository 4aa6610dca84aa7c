"""Two people change the same version of a job: the second is told so and overwrites nothing."""

import pytest

from access.problems import Refused
from jobs.models import JobVersion
from jobs.services import Submission, etag_of, submit_job
from tests.rollouts import fleet

pytestmark = pytest.mark.django_db


@pytest.fixture
def job(cast):
    """Version 1, which both have read."""
    return submit_job(fleet.ADA, Submission(spec=fleet.spec_of(mark="one"))).job


def change(mark, expected):
    spec = fleet.spec_of(mark=mark)
    return submit_job(fleet.ADA, Submission(spec=spec, expected=expected))


def test_the_second_of_two_changes_of_one_version_is_refused(job):
    read_by_both = etag_of(job)
    assert change("two", read_by_both).version.number == 2
    with pytest.raises(Refused) as refusal:
        change("three", read_by_both)
    assert refusal.value.code == "stale_revision"
    job.refresh_from_db()
    assert job.version == 2
    assert JobVersion.objects.filter(job=job).count() == 2


def test_after_reading_again_the_change_goes_through(job):
    change("two", etag_of(job))
    job.refresh_from_db()
    assert change("three", etag_of(job)).version.number == 3


def test_a_change_of_a_job_that_is_not_there_is_refused(cast):
    with pytest.raises(Refused) as refusal:
        change("one", "1-1")
    assert refusal.value.code == "stale_revision"

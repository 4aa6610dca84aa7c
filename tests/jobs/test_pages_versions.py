"""The tab of a job's versions: what became of each, and the way back to one of them."""

import re

import pytest

from access.models import AuditEntry
from jobs.models import JobVersion
from jobs.services import Submission, submit_job
from rollouts.models import Rollout
from tests.jobs.test_pages_job import html, states_of
from tests.rollouts import fleet

pytestmark = pytest.mark.django_db
TAB = "/jobs/prod/log-shipper/?tab=versions"


@pytest.fixture
def job(cast):
    """Two versions that completed, one that halted in its canary and was rolled back."""
    fleet.make_nodes(3)
    fleet.completed(fleet.spec_of(mark="v1"))
    fleet.completed(fleet.spec_of(mark="v2"))
    third = fleet.start(fleet.spec_of(mark="v3"))
    fleet.stop_what_should(third.job_id)
    fleet.become_bad(fleet.executions(third)[0])
    fleet.settle(Rollout.objects.get(version__number=4))
    third.job.refresh_from_db()
    return third.job


def back(job, number, **more):
    return {"version": number, "seen": job.version, "reason": "OBS-9"} | more


def path_of(job):
    return f"/rollouts/of-job/{job.pk}/rollback/"


def test_each_version_says_what_became_of_it(job, page_as):
    text = html(page_as("vera").get(TAB))
    assert states_of(text) == [
        "Stable current",
        "Halted rolled back by v4",
        "Was stable",
        "Was stable",
    ]
    halted = Rollout.objects.get(version__number=3)
    assert f'href="/rollouts/{halted.pk}/"' in text


def test_a_version_without_a_rollout_says_so(cast, page_as):
    submit_job(fleet.ADA, Submission(spec=fleet.spec_of()))
    assert states_of(html(page_as("vera").get(TAB))) == ["Not rolled out current"]


def test_going_back_is_offered_for_versions_that_differ_from_the_present_one(job, page_as):
    text = html(page_as("otto").get(TAB))
    assert re.findall(r"back=(\d+)", text) == ["3", "1"]


def test_going_back_asks_with_what_will_happen_in_numbers(job, page_as):
    text = " ".join(html(page_as("otto").get(f"{TAB}&back=1")).split())
    assert "Roll log-shipper back to v1?" in text
    assert "It gets a new version v5 with the spec of v1, and that goes to 3 nodes in" in text
    assert "never completed" not in text
    assert f'action="{path_of(job)}"' in text
    bad = " ".join(html(page_as("otto").get(f"{TAB}&back=3")).split())
    assert "The rollout of v3 never completed." in bad


def test_nothing_is_asked_about_a_version_that_equals_the_present_one(job, page_as):
    assert '<form class="confirm' not in html(page_as("otto").get(f"{TAB}&back=2"))


@pytest.mark.parametrize("number", ["9", "x", "-1", "1e3"])
def test_a_version_that_is_not_there_is_not_found(job, page_as, number):
    assert page_as("otto").get(f"{TAB}&back={number}").status_code == 404


def test_going_back_works_without_script_and_leads_to_its_rollout(job, page_as):
    answer = page_as("otto").post(path_of(job), back(job, 1))
    newest = Rollout.objects.get(job=job, version__number=5)
    assert (answer.status_code, answer["Location"]) == (303, f"/rollouts/{newest.pk}/")
    assert newest.version.spec == JobVersion.objects.get(job=job, number=1).spec
    assert newest.version.reason == "OBS-9"
    assert AuditEntry.objects.filter(action="rollout.rollback", object_id=job.pk).exists()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"version": 2}, "Version 2 equals the current version."),
        ({"version": 9}, "There is no version 9."),
        ({"version": "x"}, "is no good"),
        ({"seen": 3}, "Version 4 came in between"),
        ({"reason": "x" * 1025}, "is no good"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_changes(job, page_as, fields, said):
    answer = page_as("otto").post(path_of(job), back(job, 1) | fields, follow=True)
    assert said in html(answer)
    assert JobVersion.objects.filter(job=job).count() == 4


def test_those_who_may_not_are_told_which_permission_it_needs(job, page_as):
    text = html(page_as("vera").get(f"{TAB}&back=1"))
    assert "Needs the permission rollout:write in namespace prod." in text
    assert "Roll log-shipper back" not in text
    assert "back=1" not in text
    for name, status in (("vera", 403), ("nils", 404), (None, 302)):
        assert page_as(name).post(path_of(job), back(job, 1)).status_code == status
    assert page_as("otto").get(path_of(job)).status_code == 405
    assert JobVersion.objects.filter(job=job).count() == 4


# --- The strip of the running rollout on the overview ---------------------------------------------


def panel(client, job):
    return html(client.get(f"/rollouts/of-job/{job.pk}/panel/"))


def test_the_overview_shows_the_waves_of_a_rollout_that_is_under_way(job, page_as):
    rollout = fleet.start(fleet.spec_of(mark="v5"))
    text = panel(page_as("vera"), job)
    assert "Rollout of v5" in text
    assert f'id="rollout-{rollout.pk}-waves"' in text
    assert "Wave 1" in text
    assert 'href="#why"' not in text


def test_without_a_rollout_under_way_there_is_no_strip(job, page_as):
    assert "-waves" not in panel(page_as("vera"), job)

"""The page of a job: head, tabs, buttons, and what each of them does without script."""

import re

import pytest

from jobs.models import Event, Job, JobVersion
from jobs.pages import head_view
from jobs.services import Submission, submit_job
from jobs.spec import JobSpec
from tests.jobs.texts import pipeline
from tests.rollouts import fleet

pytestmark = pytest.mark.django_db
PAGE = "/jobs/prod/log-shipper/"
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def job(cast):
    fleet.make_nodes(3)
    return fleet.start(fleet.spec_of(mark="v1"), reason="first").job


@pytest.fixture
def versions(job):
    """Two more versions of the job."""
    fleet.start(fleet.spec_of(mark="v2", max_parallel=25), reason="OBS-812")
    fleet.start(fleet.spec_of(mark="v3", max_parallel=25))
    job.refresh_from_db()
    return job


def html(response):
    assert response.status_code == 200, response.content
    return response.content.decode()


def states_of(text):
    """Give what the tab of versions says became of each, the newest first."""
    rows = text.split('<th scope="row" class="mono">')[1:]
    cells = [re.search(r"<td>(.*?)</td>", row, re.DOTALL)[1] for row in rows]
    return [" ".join(re.sub(r"<[^>]*>", " ", cell).split()) for cell in cells]


def test_the_page_says_how_the_job_stands(job, page_as):
    job.refresh_from_db()
    text = html(page_as("vera").get(PAGE))
    assert job.state_message in text
    assert "Deploying" in text
    assert "role=gateway" in text
    assert "canary 1, then 50% a wave" in text
    assert "10s windows, 2 good or 3 bad, errors up to 5.0%" in text
    assert f"/ws/live/job/{job.pk}/" in text
    assert f"/rollouts/of-job/{job.pk}/" in text


def test_the_heads_revision_grows_with_all_that_happens(job, cast):
    before = head_view(job.pk).revision
    fleet.start(fleet.spec_of(mark="v2"))
    assert head_view(job.pk).revision > before


@pytest.mark.parametrize("tab", ["overview", "versions", "history", "yaml"])
@pytest.mark.parametrize(
    ("person", "status"), [("vera", 200), ("otto", 200), ("ada", 200), ("nils", 404), (None, 302)]
)
def test_every_tab_is_for_those_who_may_read_the_namespace(job, page_as, tab, person, status):
    assert page_as(person).get(f"{PAGE}?tab={tab}").status_code == status
    assert page_as(person).get(f"/live/job/{job.pk}/head/").status_code == status


def test_an_unknown_tab_and_an_unknown_job_are_not_there(job, page_as):
    vera = page_as("vera")
    assert vera.get(f"{PAGE}?tab=nonsense").status_code == 404
    assert vera.get("/jobs/prod/nonsense/").status_code == 404
    assert vera.get("/jobs/lab/log-shipper/").status_code == 404


def test_an_id_leads_to_the_name_and_keeps_the_tab(job, page_as):
    answer = page_as("vera").get(f"/jobs/{job.pk}/?tab=history")
    assert (answer.status_code, answer["Location"]) == (302, f"{PAGE}?tab=history")


def test_versions_tell_who_why_and_how_much_changed(versions, page_as):
    text = " ".join(html(page_as("vera").get(f"{PAGE}?tab=versions")).split())
    assert "OBS-812" in text
    assert "2 changes" in text
    assert "1 change " in text
    assert "first version" in text


def test_only_the_version_that_a_rollback_returns_to_is_stable(cast, page_as):
    fleet.make_nodes(2)
    fleet.completed(fleet.spec_of(mark="v1"))
    fleet.start(fleet.spec_of(mark="v2"))
    text = html(page_as("vera").get(f"{PAGE}?tab=versions"))
    assert states_of(text) == ["Rolling current", "Stable"]
    assert re.findall(r'<option value="(\d+)" selected>', text) == ["1", "2"]


def test_going_back_is_asked_about_on_the_newest_rollout(cast, page_as):
    fleet.make_nodes(2)
    rollout = fleet.completed(fleet.spec_of(mark="v1"))
    path = f"/rollouts/of-job/{rollout.job_id}/?confirm=rollback"
    assert f'href="{path}"' in html(page_as("otto").get(PAGE))
    assert page_as("otto").get(path).status_code == 302


def test_two_versions_can_be_compared(versions, page_as):
    vera = page_as("vera")
    text = html(vera.get(f"{PAGE}?tab=versions&from=1&to=3"))
    assert "v1 to v3" in text
    assert "max_parallel" in text
    assert 'class="add"' in text
    assert vera.get(f"{PAGE}?tab=versions&from=1&to=9").status_code == 404
    assert vera.get(f"{PAGE}?tab=versions&from=1&to=x").status_code == 404
    assert vera.get(f"{PAGE}?tab=versions&from=1").status_code == 404


def test_the_history_pages_through_every_event(job, page_as):
    job.refresh_from_db()
    Event.objects.bulk_create(
        Event(
            job=job,
            job_seq=1000 + number,
            namespace="prod",
            job_version=1,
            kind="test.happened",
            message=f"number {number}",
            at=fleet.timezone.now(),
        )
        for number in range(120)
    )
    vera, address, text = page_as("vera"), f"{PAGE}?tab=history", ""
    while address:
        page = html(vera.get(address))
        text += page
        parts = page.split('rel="next" href="')
        address = PAGE + parts[1].split('"')[0].replace("&amp;", "&") if len(parts) > 1 else ""
    for number in range(120):
        assert text.count(f"Number {number}<") == 1
    assert "Version 1 (create) by ada" in text


def test_the_spec_can_be_read_copied_and_downloaded_as_it_was_written(cast, page_as):
    page_as("otto").post("/jobs/new/", {"spec": pipeline()})
    job = Job.objects.get()
    vera = page_as("vera")
    assert "# Ships one mark a second." in html(vera.get(f"{PAGE}?tab=yaml"))
    file = vera.get(f"/jobs/{job.pk}/file/")
    assert file.content.decode() == pipeline()
    assert file["Content-Disposition"] == 'attachment; filename="log-shipper.yaml"'
    assert page_as("nils").get(f"/jobs/{job.pk}/file/").status_code == 404


def test_a_text_of_an_older_schema_is_shown_in_the_present_one(job, page_as):
    spec = JobSpec.model_validate(JobVersion.objects.get(job=job).spec)
    older = "deployment: {}\nname: log-shipper\n"
    submit_job(fleet.ADA, Submission(spec=spec, force=True, source_text=older))
    text = html(page_as("vera").get(f"{PAGE}?tab=yaml"))
    assert "deployment" not in text
    assert "strategy: canary" in text


def test_hostile_words_are_shown_as_text(cast, page_as):
    spec = fleet.spec_of().model_copy(
        update={"description": HOSTILE, "labels": {"team": "edge"}, "meta": {"note": HOSTILE}}
    )
    submit_job(fleet.ADA, Submission(spec=spec, reason=HOSTILE, source_text=""))
    vera = page_as("vera")
    for tab in ("overview", "versions", "history", "yaml"):
        assert HOSTILE not in html(vera.get(f"{PAGE}?tab={tab}"))
    assert HOSTILE not in html(page_as("otto").get(f"{PAGE}edit/"))


@pytest.mark.parametrize("tab", ["versions", "history"])
def test_a_tab_costs_the_same_for_any_number_of_rows(job, page_as, tab, count_queries):
    vera = page_as("vera")
    few = count_queries(lambda: vera.get(f"{PAGE}?tab={tab}"))
    for number in range(10):
        submit_job(fleet.ADA, Submission(spec=fleet.spec_of(mark=f"n{number}")))
    assert count_queries(lambda: vera.get(f"{PAGE}?tab={tab}")) <= few


# --- Buttons --------------------------------------------------------------------------------------


def test_stopping_asks_first_and_then_stops(job, page_as):
    otto = page_as("otto")
    assert "Stop log-shipper?" in html(otto.get(f"{PAGE}?confirm=stop"))
    answer = otto.post(f"/jobs/{job.pk}/stop/", {"reason": "OBS-1"}, follow=True)
    assert "log-shipper is being stopped on every node." in html(answer)
    job.refresh_from_db()
    assert job.state == "stopped"
    assert "It is stopped." in html(otto.get(PAGE))


def test_deleting_asks_for_the_name(job, page_as):
    otto = page_as("otto")
    assert 'name="name"' in html(otto.get(f"{PAGE}?confirm=delete"))
    refused = otto.post(f"/jobs/{job.pk}/delete/", {"name": "log-shiper"}, follow=True)
    assert "Nothing was deleted" in html(refused)
    job.refresh_from_db()
    assert job.state != "deleted"
    assert otto.post(f"/jobs/{job.pk}/delete/", {"name": "log-shipper"}).status_code == 303
    job.refresh_from_db()
    assert job.state == "deleted"


def test_a_deleted_job_is_read_by_its_id_and_cannot_be_touched(job, page_as):
    otto = page_as("otto")
    otto.post(f"/jobs/{job.pk}/delete/", {"name": "log-shipper"})
    assert otto.get(PAGE).status_code == 404
    text = html(otto.get(f"/jobs/{job.pk}/"))
    assert "only its history can be read" in text
    for verb in ("stop", "rerun"):
        answer = html(otto.post(f"/jobs/{job.pk}/{verb}/", follow=True))
        assert "was deleted" in answer


def test_running_again_has_the_scheduler_look(job, page_as):
    Job.objects.filter(pk=job.pk).update(reconcile_due_at=None)
    assert page_as("otto").post(f"/jobs/{job.pk}/rerun/").status_code == 303
    job.refresh_from_db()
    assert job.nodes_changed
    assert job.reconcile_due_at is not None


def test_a_stopped_job_is_not_run_again_and_says_why(job, page_as):
    otto = page_as("otto")
    otto.post(f"/jobs/{job.pk}/stop/")
    answer = html(otto.post(f"/jobs/{job.pk}/rerun/", follow=True))
    assert "started by submitting its spec again" in answer


@pytest.mark.parametrize("verb", ["stop", "rerun", "delete"])
def test_the_buttons_are_refused_to_those_who_may_not(job, page_as, verb):
    address, fields = f"/jobs/{job.pk}/{verb}/", {"name": "log-shipper"}
    assert page_as("vera").post(address, fields).status_code == 403
    assert page_as("nils").post(address, fields).status_code == 404
    assert page_as(None).post(address, fields).status_code == 302
    assert page_as("otto").get(address).status_code == 405
    job.refresh_from_db()
    assert job.state not in ("stopped", "deleted")
    assert not job.nodes_changed


def test_a_viewer_sees_the_buttons_and_which_permission_they_need(job, page_as):
    text = html(page_as("vera").get(f"{PAGE}?confirm=stop"))
    assert "Needs the permission job:write in namespace prod." in text
    assert "Stop log-shipper?" not in text
    assert "Stop…" in text

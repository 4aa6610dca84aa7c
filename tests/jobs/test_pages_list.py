"""The list of jobs: filters, order, pages, empty states, and stopping several at once."""

import pytest

from access.models import AuditEntry
from jobs.models import Job
from tests.rollouts import fleet

pytestmark = pytest.mark.django_db
JOBS = "/jobs/"
HOSTILE = "<script>alert(1)</script>"


def html(response):
    assert response.status_code == 200, response.content
    return response.content.decode()


def make_jobs(count, namespace="prod", **values):
    fields = {
        "job_type": "pipeline",
        "state": "running",
        "state_message": "Running on 3 nodes",
        "updated_at": fleet.timezone.now(),
    } | values
    names = [f"job-{number:03d}" for number in range(1, count + 1)]
    Job.objects.bulk_create(Job(namespace_id=namespace, name=name, **fields) for name in names)
    return list(Job.objects.filter(namespace=namespace, name__in=names).order_by("name"))


def names_in(text):
    """Give the names of the jobs in the order of the rows."""
    return [
        part.split("/")[0]
        for part in text.split('href="/jobs/prod/')[1:]
        if "edit" not in part[:40]
    ]


def test_a_row_tells_name_state_version_and_what_it_says(cast, page_as):
    make_jobs(1)
    text = html(page_as("vera").get(JOBS))
    assert names_in(text) == ["job-001"]
    assert "Running on 3 nodes" in text
    assert "v1" in text


def test_a_rollout_under_way_is_shown_with_its_wave_and_nodes(cast, page_as):
    fleet.make_nodes(6)
    fleet.completed(fleet.spec_of(mark="v1"))
    rollout = fleet.start(fleet.spec_of(mark="v2"))
    text = html(page_as("vera").get(JOBS))
    assert f"/rollouts/{rollout.pk}/" in text
    assert "wave 1 of" in text
    assert "of 6" in text


def test_the_newest_rollout_stays_when_it_has_ended(cast, page_as):
    fleet.make_nodes(2)
    fleet.completed(fleet.spec_of(mark="v1"))
    fleet.completed(fleet.spec_of(mark="v2"))
    text = " ".join(page_as("vera").get("/jobs/").content.decode().split())
    assert '2 <span class="quiet">of 2</span>' in text
    assert "wave" not in text
    (job,) = page_as("vera").get("/api/v1/jobs").json()["items"]
    rollout = job["status"]["rollout"]
    assert (rollout["version"], rollout["status"], rollout["updated_nodes"]) == (2, "completed", 2)
    assert rollout["completed_at"] is not None


def test_the_rows_come_by_name_and_can_be_turned(cast, page_as):
    make_jobs(3)
    vera = page_as("vera")
    assert names_in(html(vera.get(JOBS))) == ["job-001", "job-002", "job-003"]
    turned = html(vera.get(f"{JOBS}?order_by=name&order=desc"))
    assert names_in(turned) == ["job-003", "job-002", "job-001"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=002", ["job-002"]),
        ("state=failed", ["job-003"]),
        ("state=failed,running", ["job-001", "job-002", "job-003"]),
        ("type=query", ["job-002"]),
        ("type=nonsense", []),
        ("labels=team%3Dedge", ["job-001"]),
        ("labels=team+in+(edge,ops)", ["job-001", "job-003"]),
        ("labels=!team", ["job-002"]),
        ("q=job&type=pipeline&labels=team%3Dops", ["job-003"]),
    ],
)
def test_the_filters_narrow_the_list(cast, page_as, query, found):
    one, two, three = make_jobs(3)
    Job.objects.filter(pk=one.pk).update(labels={"team": "edge"})
    Job.objects.filter(pk=two.pk).update(job_type="query")
    Job.objects.filter(pk=three.pk).update(labels={"team": "ops"}, state="failed")
    text = html(page_as("vera").get(f"{JOBS}?{query}"))
    assert names_in(text) == found
    assert found or "No job matches" in text


def test_a_label_filter_that_cannot_be_read_says_where(cast, page_as):
    make_jobs(1)
    text = html(page_as("vera").get(f"{JOBS}?labels=team+in+("))
    assert "column" in text
    assert 'value="team in ("' in text
    assert names_in(text) == []


def test_states_are_counted_over_the_other_filters(cast, page_as):
    make_jobs(3)
    Job.objects.filter(name="job-003").update(state="failed")
    text = " ".join(html(page_as("vera").get(f"{JOBS}?state=failed")).split())
    assert 'All <span class="count">3</span>' in text
    assert 'Running</span> <span class="count">2</span>' in text


def test_pages_neither_skip_nor_repeat(cast, page_as):
    make_jobs(7)
    vera, seen, address = page_as("vera"), [], f"{JOBS}?limit=3&q=job"
    while address:
        text = html(vera.get(address))
        seen += names_in(text)
        parts = text.split('rel="next" href="')
        address = JOBS + parts[1].split('"')[0].replace("&amp;", "&") if len(parts) > 1 else ""
    assert seen == [f"job-{number:03d}" for number in range(1, 8)]


def test_a_damaged_page_token_is_a_page_that_says_so(cast, page_as):
    assert page_as("vera").get(f"{JOBS}?next_token=x").status_code == 400
    assert page_as("vera").get(f"{JOBS}?nonsense=1").status_code == 400


def test_jobs_of_other_namespaces_and_deleted_ones_are_not_listed(cast, page_as):
    make_jobs(1, "lab")
    make_jobs(1, state="deleted")
    vera = page_as("vera")
    assert "job-001" not in html(vera.get(JOBS))
    assert "job-001" not in html(vera.get(f"{JOBS}?namespace=lab"))
    assert "job-001" in html(vera.get(f"{JOBS}?state=deleted"))


def test_the_namespace_switch_narrows_the_list(cast, page_as):
    make_jobs(1, "lab")
    make_jobs(2)
    ada = page_as("ada")
    both = html(ada.get(JOBS))
    assert "/jobs/lab/job-001/" in both
    assert "/jobs/prod/job-002/" in both
    assert "/jobs/lab/job-001/" not in html(ada.get(f"{JOBS}?namespace=prod"))


@pytest.mark.parametrize(
    ("person", "query", "says"),
    [
        ("otto", "", "No jobs yet"),
        ("otto", "?q=x", "No job matches"),
        ("nils", "", "No namespace to look into"),
    ],
)
def test_an_empty_list_says_why(cast, page_as, person, query, says):
    assert says in html(page_as(person).get(JOBS + query))


def test_the_first_command_can_be_copied(cast, page_as):
    text = html(page_as("otto").get(JOBS))
    assert "http://testserver/api/v1/jobs" in text
    assert "data-copy=" in text


def test_hostile_words_are_shown_as_text(cast, page_as):
    make_jobs(1, state_message=HOSTILE)
    text = html(page_as("vera").get(JOBS, {"q": HOSTILE}))
    assert HOSTILE not in text
    assert HOSTILE not in html(page_as("vera").get(JOBS))


def test_the_list_costs_the_same_for_any_number_of_rows(cast, page_as, count_queries):
    vera = page_as("vera")
    make_jobs(5)
    few = count_queries(lambda: vera.get(JOBS))
    Job.objects.all().delete()
    make_jobs(50)
    assert count_queries(lambda: vera.get(JOBS)) == few


# --- Stopping several -----------------------------------------------------------------------------


def test_stopping_several_asks_first_and_then_stops_each(cast, page_as):
    jobs = make_jobs(3)
    otto = page_as("otto")
    chosen = [str(job.pk) for job in jobs[:2]]
    asked = html(otto.post("/jobs/stop-selected/", {"job": chosen}))
    assert "Stop 2 jobs?" in asked
    assert "job-001" in asked
    assert not Job.objects.filter(state="stopped").exists()
    done = otto.post("/jobs/stop-selected/", {"job": chosen, "sure": "on", "reason": "OBS-1"})
    assert done.status_code == 303
    assert Job.objects.filter(state="stopped").count() == 2
    assert AuditEntry.objects.filter(action="job.stop", reason="OBS-1").count() == 2


def test_jobs_that_one_may_not_stop_are_left_out(cast, page_as):
    (foreign,) = make_jobs(1, "lab")
    (own,) = make_jobs(1)
    ids = {"job": [str(foreign.pk), str(own.pk)], "sure": "on"}
    assert page_as("vera").post("/jobs/stop-selected/", ids).status_code == 303
    assert not Job.objects.filter(state="stopped").exists()
    page_as("otto").post("/jobs/stop-selected/", ids)
    assert list(Job.objects.filter(state="stopped")) == [own]


@pytest.mark.parametrize("chosen", [[], ["nonsense"], ["\0"]])
def test_a_selection_that_makes_no_sense_stops_nothing(cast, page_as, chosen):
    make_jobs(1)
    answer = page_as("otto").post("/jobs/stop-selected/", {"job": chosen, "sure": "on"})
    assert answer.status_code in (303, 422)
    assert not Job.objects.filter(state="stopped").exists()


def test_a_viewer_sees_no_boxes_to_tick_and_a_new_button_that_says_why(cast, page_as):
    make_jobs(1)
    text = html(page_as("vera").get(JOBS))
    assert 'name="job"' not in text
    assert "Needs the permission job:write" in text
    assert 'name="job"' in html(page_as("otto").get(JOBS))


def test_a_stranger_is_sent_to_sign_in(cast, page_as):
    assert page_as().get(JOBS).status_code == 302

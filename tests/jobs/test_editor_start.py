"""The editor: it shows the plan before anything starts, submits, and never loses a text."""

import re
from html import unescape

import pytest
from django.test import Client

from access.models import AuditEntry
from jobs.models import Job, JobDraft, JobVersion
from tests.jobs.texts import pipeline
from tests.rollouts import fleet

pytestmark = pytest.mark.django_db
NEW = "/jobs/new/"
EDIT = "/jobs/prod/log-shipper/edit/"
PLAN = "/jobs/plan/"


@pytest.fixture
def nodes(cast):
    return fleet.make_nodes(4)


@pytest.fixture
def job(cast, page_as):
    page_as("otto").post(NEW, {"spec": pipeline()})
    return Job.objects.get(name="log-shipper")


def base_of(job):
    return f"{job.pk}.{job.version}"


def html(response):
    return response.content.decode()


def plan(client, text, **fields):
    """Ask for the plan as the editor's script does."""
    return html(client.post(PLAN, {"spec": text, **fields}, headers={"HX-Request": "true"}))


def test_a_new_job_is_planned_wave_by_wave_before_anything_is_stored(page_as, nodes):
    answer = plan(page_as("otto"), pipeline())
    for node in nodes:
        assert node.name in answer
    assert "1, canary" in answer
    assert "Start rollout on 4 nodes" in answer
    assert "at least 1 min" in answer
    assert not Job.objects.exists()


def test_starting_stores_the_job_with_its_text_and_reason_and_shows_it(page_as, nodes):
    answer = page_as("otto").post(NEW, {"spec": pipeline(), "reason": "OBS-812"})
    assert (answer.status_code, answer["Location"]) == (303, "/jobs/prod/log-shipper/")
    version = JobVersion.objects.get()
    assert version.source_text == pipeline()
    assert (version.reason, version.created_by) == ("OBS-812", "otto")
    assert AuditEntry.objects.filter(action="job.submit", actor="otto").exists()


def test_the_line_breaks_of_browsers_do_not_end_up_in_the_stored_text(page_as, nodes):
    page_as("otto").post(NEW, {"spec": pipeline().replace("\n", "\r\n")})
    assert JobVersion.objects.get().source_text == pipeline()


def test_json_is_read_as_well(page_as, nodes):
    text = '{"name": "j", "namespace": "prod", "type": "pipeline", "config": {"input": {"generate": {"interval": "1s", "mapping": "root = 1"}}, "output": {"drop": {}}}}'
    assert page_as("otto").post(NEW, {"spec": text}).status_code == 303
    answer = html(page_as("otto").get("/jobs/prod/j/edit/"))
    assert "name: j" in answer


def test_without_script_the_plan_button_answers_with_the_whole_page(page_as, nodes):
    answer = page_as("otto").post(PLAN, {"spec": pipeline()})
    assert answer.status_code == 200
    assert "<!doctype html>" in html(answer)
    assert "Start rollout on 4 nodes" in html(answer)
    assert "root.mark = &quot;v1&quot;" in html(answer)


def test_editing_shows_what_changes_and_with_which_effect(page_as, nodes, job):
    text = pipeline(mark="v2").replace("max_parallel: 50", "max_parallel: 25")
    answer = plan(page_as("otto"), text, job=job.pk, base=base_of(job))
    assert "<del>root.mark = &quot;v1&quot;</del> <ins>root.mark = &quot;v2&quot;</ins>" in answer
    assert "Restarts" in answer
    assert "Pace only" in answer
    done = page_as("otto").post(EDIT, {"spec": text, "job": job.pk, "base": base_of(job)})
    assert done.status_code == 303
    job.refresh_from_db()
    assert job.version == 2


def test_an_equal_text_is_refused_and_a_restart_is_offered(page_as, nodes, job):
    otto = page_as("otto")
    fields = {"spec": pipeline(), "job": job.pk, "base": base_of(job)}
    refused = otto.post(EDIT, fields)
    assert refused.status_code == 422
    assert "nothing would change" in html(refused)
    assert 'name="force"' in html(refused)
    assert "Restart 4 nodes" in plan(otto, pipeline(), job=job.pk, base=base_of(job), force="on")
    assert otto.post(EDIT, fields | {"force": "on"}).status_code == 303
    assert JobVersion.objects.get(job=job, number=2).cause == "restart"


def test_a_version_that_came_in_between_is_shown_and_the_text_is_kept(page_as, nodes, job):
    base = base_of(job)
    fields = {"spec": pipeline(mark="theirs"), "job": job.pk, "base": base, "reason": "mine first"}
    assert page_as("ada").post(EDIT, fields).status_code == 303
    mine = {"spec": pipeline(mark="mine"), "job": job.pk, "base": base}
    refused = page_as("otto").post(EDIT, mine)
    text = html(refused)
    assert refused.status_code == 412
    assert "Version 2 came in between" in text
    assert "ada" in text
    assert "mine first" in text
    assert "theirs" in text
    assert "root.mark = &quot;mine&quot;" in text
    assert Job.objects.get().version == 2
    job.refresh_from_db()
    assert page_as("otto").post(EDIT, mine | {"accept": base_of(job)}).status_code == 303
    assert Job.objects.get().version == 3


def test_accepting_one_version_does_not_replace_the_next(page_as, nodes, job):
    base = base_of(job)
    mine = {"spec": pipeline(mark="mine"), "job": job.pk, "base": base, "accept": f"{job.pk}.2"}
    for mark in ("second", "third"):
        job.refresh_from_db()
        page_as("ada").post(
            EDIT, {"spec": pipeline(mark=mark), "job": job.pk, "base": base_of(job)}
        )
    assert page_as("otto").post(EDIT, mine).status_code == 412
    assert Job.objects.get().version == 3


def test_a_new_job_does_not_silently_update_one_of_the_same_name(page_as, nodes, job):
    otto = page_as("otto")
    text = pipeline(mark="v2")
    refused = otto.post(NEW, {"spec": text})
    assert refused.status_code == 409
    assert "exists already" in html(refused)
    assert Job.objects.get().version == 1
    assert otto.post(NEW, {"spec": text, "seen": base_of(job)}).status_code == 303
    assert Job.objects.get().version == 2


def test_another_name_in_the_text_does_not_become_another_job(page_as, nodes, job):
    refused = page_as("otto").post(
        EDIT, {"spec": pipeline("other"), "job": job.pk, "base": base_of(job)}
    )
    assert refused.status_code == 409
    assert 'data-problem-line="2"' in html(refused)
    assert Job.objects.count() == 1


def test_a_job_deleted_meanwhile_keeps_the_text_on_the_page(page_as, nodes, job):
    fields = {"spec": pipeline(mark="mine"), "job": job.pk, "base": base_of(job)}
    page_as("otto").post(f"/jobs/{job.pk}/delete/", {"name": "log-shipper"})
    refused = page_as("otto").post(EDIT, fields)
    assert refused.status_code == 409
    assert "was deleted in the meantime" in html(refused)
    assert "root.mark = &quot;mine&quot;" in html(refused)


# --- Drafts ---------------------------------------------------------------------------------------


def test_planning_keeps_a_draft_that_only_its_writer_sees(page_as, nodes, job):
    otto = page_as("otto")
    assert "Draft saved" in plan(otto, pipeline(mark="draft"), job=job.pk, base=base_of(job))
    assert "root.mark = &quot;draft&quot;" in html(otto.get(EDIT))
    assert "root.mark = &quot;draft&quot;" not in html(page_as("ada").get(EDIT))


def test_a_draft_that_equals_what_is_stored_is_none(page_as, nodes, job):
    otto = page_as("otto")
    plan(otto, pipeline(mark="draft"), job=job.pk, base=base_of(job))
    plan(otto, pipeline(), job=job.pk, base=base_of(job))
    assert not JobDraft.objects.exists()


@pytest.mark.parametrize("is_new", [True, False])
def test_a_draft_can_be_discarded(page_as, nodes, job, is_new):
    otto = page_as("otto")
    fields = {} if is_new else {"job": job.pk, "base": base_of(job)}
    plan(otto, pipeline(mark="draft"), **fields)
    assert JobDraft.objects.count() == 1
    answer = otto.post("/jobs/discard-draft/", fields)
    assert (answer.status_code, answer["Location"]) == (303, NEW if is_new else EDIT)
    assert not JobDraft.objects.exists()


def test_starting_uses_the_draft_up(page_as, nodes, job):
    otto = page_as("otto")
    plan(otto, pipeline(mark="v2"), job=job.pk, base=base_of(job))
    otto.post(EDIT, {"spec": pipeline(mark="v2"), "job": job.pk, "base": base_of(job)})
    assert not JobDraft.objects.exists()
    plan(otto, pipeline("fresh"))
    otto.post(NEW, {"spec": pipeline("fresh")})
    assert not JobDraft.objects.exists()


def test_an_old_draft_says_that_the_job_moved_on(page_as, nodes, job):
    plan(page_as("otto"), pipeline(mark="draft"), job=job.pk, base=base_of(job))
    page_as("ada").post(
        EDIT, {"spec": pipeline(mark="theirs"), "job": job.pk, "base": base_of(job)}
    )
    answer = html(page_as("otto").get(EDIT))
    assert "Version 2 came in between" in answer
    assert "root.mark = &quot;draft&quot;" in answer


def test_the_text_can_be_saved_as_a_file_whatever_it_is(page_as, nodes, job):
    answer = page_as("otto").post("/jobs/file/", {"spec": "not: [yaml", "job": job.pk})
    assert answer.content == b"not: [yaml"
    assert answer["Content-Disposition"] == 'attachment; filename="log-shipper.yaml"'


# --- Who may ---------------------------------------------------------------------------------------


def test_the_same_can_be_done_by_a_command_that_can_be_copied(page_as, nodes, job):
    new = unescape(html(page_as("otto").get(NEW)))
    assert "--data-binary @job.yaml http://testserver/api/v1/jobs" in new
    assert "If-Match" not in new
    edit = unescape(html(page_as("otto").get(EDIT)))
    command = re.search(r"<code>(curl [^<]*)</code>", edit)[1]
    assert f"-H 'If-Match: \"{base_of(job)}\"'" in command
    assert f'data-copy="{command}"' in edit


def test_the_commands_guard_is_the_one_that_rest_keeps(nodes, job, rest_as):
    def put(base):
        return rest_as("otto").put(
            "/api/v1/jobs",
            pipeline(mark="v2"),
            content_type="application/yaml",
            headers={"If-Match": f'"{base}"'},
        )

    assert put(f"{job.pk}.7").status_code in (409, 412)
    assert JobVersion.objects.filter(job=job).count() == 1
    assert put(base_of(job)).status_code == 200


def test_a_viewer_may_not_edit_plan_or_start(page_as, nodes, job):
    vera = page_as("vera")
    fields = {"spec": pipeline(mark="v2"), "job": job.pk, "base": base_of(job)}
    assert vera.get(NEW).status_code == 403
    assert vera.get(EDIT).status_code == 403
    assert vera.post(EDIT, fields).status_code == 403
    assert vera.post(PLAN, fields).status_code == 403
    assert vera.post(PLAN, {"spec": pipeline()}).status_code == 403
    assert Job.objects.get().version == 1


def test_for_a_stranger_to_the_namespace_the_job_is_not_there(page_as, nodes, job):
    nils = page_as("nils")
    fields = {"spec": pipeline(mark="v2"), "job": job.pk}
    assert nils.get(EDIT).status_code == 404
    assert nils.post(EDIT, fields).status_code == 404
    assert nils.post(PLAN, fields).status_code == 404
    assert nils.post("/jobs/file/", fields).status_code == 404
    assert page_as().get(EDIT).status_code == 302


def test_a_namespace_one_may_not_see_is_as_unknown_as_a_missing_one(page_as, nodes):
    otto = page_as("otto")
    for namespace in ("lab", "nowhere"):
        answer = plan(otto, pipeline().replace("namespace: prod", f"namespace: {namespace}"))
        assert f"There is no namespace &#x27;{namespace}&#x27; that you may use." in answer
        assert 'data-problem-line="3"' in answer


def test_a_type_one_may_not_submit_is_named_with_its_permission(page_as, nodes):
    text = "name: s\nnamespace: prod\ntype: script\nconfig:\n  runner: shell\n  payload: uname\n"
    answer = plan(page_as("otto"), text)
    assert "needs command:execute in namespace prod" in answer
    assert "Start rollout on" not in answer


def test_every_form_of_the_editor_carries_its_token(cast, nodes):
    client = Client(enforce_csrf_checks=True)
    client.force_login(cast.otto)
    assert client.post(NEW, {"spec": pipeline()}).status_code == 403
    assert not Job.objects.exists()


# --- Examples ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("example", ["web-log", "log-processor", "script"])
def test_every_example_is_a_job_without_problems_in_ones_own_namespace(page_as, nodes, example):
    answer = html(page_as("ada").get(f"{NEW}?example={example}&namespace=prod"))
    assert "namespace: prod" in answer
    assert "The text is a valid job." in answer


def test_an_unknown_example_is_not_there(page_as, cast):
    assert page_as("otto").get(f"{NEW}?example=../settings").status_code == 404


def test_hostile_text_is_shown_as_text(page_as, nodes):
    text = pipeline().replace("# Ships", "# </textarea><script>alert(1)</script>")
    answer = page_as("otto").post(PLAN, {"spec": text})
    assert "<script>alert" not in html(answer)
    assert "&lt;/textarea&gt;&lt;script&gt;" in html(answer)


def test_the_plan_costs_the_same_for_any_number_of_nodes(
    page_as, cast, django_assert_max_num_queries
):
    fleet.make_nodes(60)
    otto = page_as("otto")
    with django_assert_max_num_queries(22):
        answer = plan(otto, pipeline())
    assert "Start rollout on 60 nodes" in answer
    assert "+40" in answer

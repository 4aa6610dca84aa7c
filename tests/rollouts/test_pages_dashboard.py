"""The dashboard: what needs a person comes first, and each sees only their own namespaces."""

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from rollouts import services
from rollouts.fragments import DASHBOARD
from rollouts.overview import attention_view, fleet_view
from rollouts.scope import EVERY
from tests.factories import NamespaceFactory, RoleBindingFactory
from tests.rollouts import fleet

pytestmark = pytest.mark.django_db


def text_of(client, path="/"):
    answer = client.get(path)
    assert answer.status_code == 200, answer.status_code
    return answer.content.decode()


@pytest.fixture
def busy(cast):
    """One rollout at its gate, one paused, one halted, one on its way; one node lost."""
    fleet.make_nodes(4)
    fleet.make_nodes(1, labels={"role": "camera"}, connection="lost")
    gate = fleet.settle(fleet.start(fleet.spec_of("at-the-gate")))
    paused = fleet.start(fleet.spec_of("held", strategy="rolling"))
    services.pause_rollout(fleet.ADA, paused.job_id)
    fleet.completed(fleet.spec_of("burnt", mark="v1"))
    halted = fleet.start(fleet.spec_of("burnt", mark="v2"))
    fleet.stop_what_should(halted.job_id)
    fleet.become_bad(fleet.executions(halted)[0])
    rolling = fleet.start(fleet.spec_of("on-its-way", strategy="rolling"))
    return {"gate": gate, "paused": paused, "halted": halted, "rolling": rolling}


def test_what_needs_a_person_comes_first(busy, page_as):
    text = text_of(page_as("vera"))
    attention = re.search(r"<ul class=\"attention.*?</ul>", text, re.DOTALL)[0]
    subjects = re.findall(r"<strong>([^<]+)</strong>", attention)
    assert subjects == ["burnt", "held", "at-the-gate", "1 node"]
    assert "waits for promotion" in attention
    assert f"/rollouts/{busy['gate'].pk}/" in attention
    assert "on-its-way" not in attention
    assert text.index("on-its-way") > text.index("</ul>", text.index("attention ruled"))


def halted_item():
    return next(item for item in attention_view("prod").items if item.kind == "halted")


def test_a_halt_says_which_job_why_and_what_is_left_to_do(busy, page_as):
    item = halted_item()
    assert (item.subject, item.text) == (
        "burnt",
        "v2 halted in wave 1: a canary failed: any failed canary halts",
    )
    assert item.detail == (
        "1 of 4 nodes failed. v3 brought the earlier spec back to 4 of 4 nodes: "
        "mend the spec and submit it again."
    )
    assert f'href="/rollouts/{busy["halted"].pk}/?tab=failures#tabs"' in text_of(page_as("vera"))


def test_a_rollback_that_is_under_way_says_how_far_it_is(cast):
    fleet.make_nodes(6)
    spec = {"strategy": "rolling", "max_parallel": 50, "max_failed_nodes": 1}
    fleet.completed(fleet.spec_of(mark="v1", **spec))
    second = fleet.start(fleet.spec_of(mark="v2", **spec))
    fleet.stop_what_should(second.job_id)
    stable, *others = fleet.executions(second)
    fleet.become_stable(stable)
    for one in others:
        fleet.become_bad(one)
    assert "v3 is bringing the earlier spec back: " in halted_item().detail


def test_a_halt_that_nothing_followed_says_that_nodes_keep_what_they_have(cast):
    fleet.make_nodes(2)
    rollout = fleet.start(fleet.spec_of())
    fleet.become_bad(fleet.executions(rollout)[0])
    assert halted_item().detail == (
        "1 of 2 nodes failed. Nodes keep what they have: mend the spec, or roll back by hand."
    )
    fleet.start(fleet.spec_of(mark="v2"))
    assert halted_item().detail == "1 of 2 nodes failed. v2 took over."


def test_halts_cost_the_same_number_of_queries_for_ten_as_for_two(cast):
    fleet.make_nodes(2)
    counts = []
    for names in (range(2), range(2, 10)):
        for number in names:
            rollout = fleet.start(fleet.spec_of(f"job-{number}"))
            fleet.become_bad(fleet.executions(rollout)[0])
        with CaptureQueriesContext(connection) as seen:
            attention_view("prod")
        counts.append(len(seen))
    assert counts[0] == counts[1]


def test_a_calm_dashboard_says_so(cast, page_as):
    fleet.make_nodes(1)
    fleet.completed(fleet.spec_of(strategy="rolling"))
    text = text_of(page_as("vera"))
    assert "Nothing needs attention" in text
    assert "No rollout is under way." in text
    assert "1 of 1 wanted" in re.sub(r"<[^>]+>", "", text)


def test_nodes_are_counted_by_badge(busy):
    assert {b.badge: b.count for b in fleet_view("prod").badges} == {"ready": 4, "lost": 1}
    assert fleet_view("lab").total == 0
    assert fleet_view(EVERY).total == 5


def test_a_new_installation_shows_commands_to_copy(cast, page_as):
    text = text_of(page_as("ada"))
    assert "Set up your first fleet" in text
    assert "1 of 3 done" in text
    assert "http://testserver/install/agent.pyz" in text
    assert 'data-copy="curl -sS -X PUT' in text
    fleet.make_nodes(2)
    assert "2 nodes have joined." in text_of(page_as("ada"))


def test_who_has_no_namespace_is_told_so(cast, page_as):
    assert "No namespace is yours yet" in text_of(page_as("nils"))
    assert page_as().get("/").status_code == 302


def test_a_dashboard_holds_only_ones_own_namespaces(busy, page_as):
    fleet.make_nodes(1, "lab")
    fleet.start(fleet.spec_of("in-lab", "lab"))
    assert "in-lab" not in text_of(page_as("vera"))
    assert "in-lab" in text_of(page_as("ada"))
    assert "in-lab" not in text_of(page_as("ada"), "/?namespace=prod")


@pytest.mark.parametrize("pk", ["lab", EVERY, "lab,prod", "nowhere", ","])
def test_boxes_of_other_namespaces_are_not_there(busy, page_as, pk):
    for part in DASHBOARD.fragments:
        path = reverse("live:fragment", args=["dashboard", pk, part.name])
        assert page_as("vera").get(path).status_code == 404


def test_boxes_are_the_same_bytes_as_in_the_page(busy, page_as):
    client = page_as("vera")
    page = text_of(client)
    assert 'hx-ws:connect="/ws/live/dashboard/prod/"' in page
    for part in DASHBOARD.fragments:
        if part.name != "steps":
            box = text_of(client, reverse("live:fragment", args=["dashboard", "prod", part.name]))
            assert box.strip() in page


def test_several_namespaces_make_one_dashboard_that_asks_by_itself(busy, cast, page_as):
    RoleBindingFactory(user=cast.vera, role="read", namespace=NamespaceFactory(name="lab"))
    text = text_of(page_as("vera"))
    assert 'data-live-url="/live/dashboard/lab,prod/attention/"' in text
    assert "hx-ws:connect" not in text
    assert page_as("vera").get("/live/dashboard/lab,prod/attention/").status_code == 200


def test_the_navigation_counts_what_waits_for_a_person(busy, page_as):
    text = text_of(page_as("vera"), "/rollouts/")
    assert re.search(r"2<span class=\"sr-only\"> need attention", text)


def test_the_number_of_queries_does_not_depend_on_the_number_of_jobs(
    cast, page_as, django_assert_max_num_queries
):
    fleet.make_nodes(3)
    client, counts = page_as("vera"), []
    for size in (5, 20):
        for number in range(size):
            rollout = fleet.start(fleet.spec_of(f"job-{size}-{number}", strategy="rolling"))
            if number % 2:
                services.pause_rollout(fleet.ADA, rollout.job_id)
        with django_assert_max_num_queries(45) as seen:
            text_of(client)
        counts.append(len(seen))
    assert counts[0] == counts[1]


def test_hostile_job_messages_are_only_texts(busy):
    from jobs.models import Job

    Job.objects.filter(name="held").update(
        state="degraded", state_message="<script>alert(1)</script>"
    )
    box = DASHBOARD.fragments[0].render("prod")
    assert "<script>alert" not in box
    assert any("<script>" in item.detail for item in attention_view("prod").items)

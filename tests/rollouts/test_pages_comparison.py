"""The box of the canary against the rest, and the numbers on the tabs of a rollout's page."""

import re
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from django.urls import reverse

from rollouts import services
from rollouts.comparison import comparison_view, in_words
from rollouts.tab_counts import MOST, decisions_count_view, events_count_view, failures_count_view
from tests.rollouts import fleet

pytestmark = pytest.mark.django_db


def page_of(client, rollout, query=""):
    return client.get(f"/rollouts/{rollout.pk}/{query}").content.decode()


def section_of(text):
    return re.search(r'<section id="[^"]*-canary".*?</section>', text, re.DOTALL)[0]


def begun(nodes=6, **rollout):
    """A second version whose canary is out; the first runs on all nodes."""
    fleet.make_nodes(nodes)
    first = fleet.completed(fleet.spec_of(mark="v1", **rollout))
    second = fleet.start(fleet.spec_of(mark="v2", **rollout))
    fleet.stop_what_should(second.job_id)
    return first, second


def still_on(first, second):
    """The executions of the first version on nodes that the second has not reached."""
    reached = {one.node_id for one in fleet.executions(second)}
    return [one for one in fleet.executions(first) if one.node_id not in reached]


def canary_at(second, *rates, **more):
    """Let the canary run with these error rates."""
    (one,) = fleet.executions(second)
    fleet.take_up(one)
    fleet.report(one, *(replace(frame, **more) for frame in fleet.windows(one, *rates)))
    return one


def rest_at(first, second, rate, count=1, **more):
    """Let the nodes that wait go on with this error rate."""
    for one in still_on(first, second):
        frames = fleet.windows(one, *[rate] * count)
        fleet.report(one, *(replace(frame, **more) for frame in frames))


def rows_of(view):
    return {row.name: (row.canary, row.rest, row.verdict) for row in view.measures}


@pytest.fixture
def compared(cast):
    """A canary at 2 % errors beside five nodes at 1 %, at a gate."""
    first, second = begun()
    canary_at(second, 0.02, 0.02, rss_bytes=80_000_000)
    rest_at(first, second, 0.01, count=3)
    second.refresh_from_db()
    return second


def test_both_sides_stand_beside_each_other_with_limit_and_verdict(compared, page_as):
    view = comparison_view(compared.pk)
    assert (view.canary_nodes, view.rest_nodes) == (1, 5)
    assert rows_of(view) == {
        "Error rate": ("2.0%", "1.0%", "Within limit"),
        "Good windows": ("2 of 2", "15 of 15", "Same"),
        "Messages a minute": ("6,000", "6,000", "Same"),
        "CPU, mean": ("12.5%", "12.5%", "Same"),
        "Memory, highest": ("80 MB", "61 MB", "31% more"),
        "Restarts": ("0", "0", "Same"),
    }
    box = section_of(page_of(page_as("vera"), compared))
    assert "v2 on 1 node</th>" in box
    assert "v1 on 5 nodes</th>" in box
    assert "5%</td>" in box
    assert "31% more" in box


def test_a_canary_over_the_limit_is_above_it_after_the_halt_too(cast, page_as):
    first, second = begun()
    rest_at(first, second, 0.0)
    canary_at(second, 0.5, 0.5, 0.5)
    rest_at(first, second, 0.0)
    second.refresh_from_db()
    assert second.state == "halted"
    view = comparison_view(second.pk)
    assert rows_of(view)["Error rate"] == ("50.0%", "0.0%", "Above limit")
    assert rows_of(view)["Good windows"][2] == "Fewer"
    assert "Above limit" in section_of(page_of(page_as("vera"), second))


def test_restarts_are_compared_as_often_as_they_come_on_one_node(cast):
    first, second = begun()
    canary_at(second, 0.0, 0.0, restarts=1)
    rest_at(first, second, 0.0, count=2, restarts=1)
    assert rows_of(comparison_view(second.pk))["Restarts"] == ("2", "10", "Same")
    (one,) = fleet.executions(second)
    fleet.report(one, *(replace(f, restarts=3) for f in fleet.windows(one, 0.0)))
    assert rows_of(comparison_view(second.pk))["Restarts"] == ("5", "10", "More")


def test_windows_from_before_the_canary_and_late_ones_are_not_compared(compared):
    before = comparison_view(compared.pk)
    (one, *_) = fleet.Execution.objects.filter(job_version=1, observed_state="running")
    earlier = (datetime.fromisoformat(fleet.windows(one, 0)[0].started_at)) - timedelta(hours=1)
    old = replace(
        fleet.windows(one, 1.0)[0],
        started_at=(earlier - timedelta(seconds=10)).isoformat(),
        ended_at=earlier.isoformat(),
    )
    fleet.report(one, old)
    assert rows_of(comparison_view(compared.pk)) == rows_of(before)


def test_after_the_end_only_windows_of_its_time_are_compared(cast):
    first, second = begun()
    canary_at(second, 0.5, 0.5, 0.5)
    rest_at(first, second, 0.0)
    second.refresh_from_db()
    view = comparison_view(second.pk)
    later = (second.completed_at + timedelta(hours=5)).isoformat()
    much = (second.completed_at + timedelta(hours=5, seconds=10)).isoformat()
    rest_at(first, second, 1.0, started_at=later, ended_at=much)
    assert rows_of(comparison_view(second.pk)) == rows_of(view)


def test_without_a_baseline_the_box_says_why(cast, page_as):
    fleet.make_nodes(3)
    rollout = fleet.start(fleet.spec_of())
    box = section_of(page_of(page_as("vera"), rollout))
    assert "No earlier version completed, so there is nothing to compare with." in box


def test_a_canary_that_has_reported_nothing_and_a_silent_rest_are_told_apart(cast):
    first, second = begun()
    assert comparison_view(second.pk).empty == "The canary has reported no health window yet."
    canary_at(second, 0.0)
    assert comparison_view(second.pk).empty.startswith("No waiting node reported as v1")
    rest_at(first, second, 0.0)
    assert comparison_view(second.pk).measures


@pytest.mark.parametrize("strategy", ["rolling", "immediate"])
def test_where_there_is_no_canary_there_is_no_box(cast, page_as, strategy):
    fleet.make_nodes(3)
    rollout = fleet.start(fleet.spec_of(strategy=strategy))
    box = section_of(page_of(page_as("vera"), rollout))
    assert "<h2" not in box


def test_the_box_is_gone_once_the_rollout_is_complete(compared):
    services.promote_rollout(fleet.ADA, compared.job_id)
    assert comparison_view(compared.pk).is_shown
    done = fleet.settle(compared)
    assert done.state == "completed"
    assert not comparison_view(done.pk).is_shown


def test_its_revision_grows_with_windows_of_the_rest_and_to_the_end(cast):
    first, second = begun()
    seen = [comparison_view(second.pk).revision]
    canary_at(second, 0.0, 0.0)
    seen.append(comparison_view(second.pk).revision)
    rest_at(first, second, 0.0)
    seen.append(comparison_view(second.pk).revision)
    services.promote_rollout(fleet.ADA, second.job_id)
    fleet.settle(second)
    seen.append(comparison_view(second.pk).revision)
    assert seen == sorted(set(seen))


def test_the_comparison_takes_as_many_queries_for_forty_nodes_as_for_five(
    cast, django_assert_num_queries
):
    for nodes in (5, 40):
        first, second = begun(nodes, canary_percent=20)
        for one in fleet.executions(second):
            fleet.take_up(one)
            fleet.report(one, *fleet.windows(one, 0.0))
        rest_at(first, second, 0.0)
        with django_assert_num_queries(4):
            assert comparison_view(second.pk).measures


@pytest.mark.parametrize(
    ("mine", "theirs", "worse", "answer"),
    [
        (100, 100, 1, ("healthy", "Same")),
        (109, 100, 1, ("healthy", "Same")),
        (130, 100, 1, ("degraded", "30% more")),
        (130, 100, -1, ("remaining", "30% more")),
        (70, 100, -1, ("degraded", "30% less")),
        (70, 100, 1, ("remaining", "30% less")),
        (115, 100, 1, ("remaining", "15% more")),
        (0, 0, -1, ("healthy", "Same")),
        (5, 0, 1, ("remaining", "None before")),
    ],
)
def test_a_difference_is_told_in_words(mine, theirs, worse, answer):
    assert in_words(mine, theirs, worse=worse) == answer


# --- The numbers on the tabs ---------------------------------------------------------------------


def test_tabs_say_how_much_stands_under_them(compared, page_as):
    text = page_of(page_as("vera"), compared)
    events = fleet.Rollout.objects.get(pk=compared.pk)
    count = events_count_view(events.pk).count
    assert count > 3
    assert re.search(rf'_count count"[^>]*>{count}</span>\s*</a>', text)
    assert re.search(r"Failures\s+<span [^>]*>0</span>\s*</a>", text)
    assert decisions_count_view(compared.pk).count > 0


def test_a_halted_rollout_opens_with_its_failures_and_their_number(cast, page_as):
    _, second = begun()
    canary_at(second, 0.5, 0.5, 0.5)
    second.refresh_from_db()
    assert second.state == "halted"
    text = page_of(page_as("vera"), second)
    tab = re.search(r"<a [^>]*aria-current=\"page\">(\w+) ", text.partition('id="tabs"')[2])
    assert tab[1] == "Failures"
    assert re.search(r'<b class="is-bad-text">1</b></span>\s*</a>', text)
    assert 'aria-current="page">Events' in page_of(page_as("vera"), second, "?tab=events")


def test_a_long_history_is_not_counted_to_its_end(compared):
    from jobs.models import Event

    one = Event.objects.filter(rollout_id=compared.pk).first()
    fields = {f.attname: getattr(one, f.attname) for f in Event._meta.fields if f.name != "id"}
    Event.objects.bulk_create(Event(**fields | {"job_seq": 10_000 + n}) for n in range(MOST))
    view = events_count_view(compared.pk)
    assert (view.count, view.has_more) == (MOST, True)


def test_the_counts_revisions_never_fall(cast):
    _, second = begun()
    views = (failures_count_view, events_count_view, decisions_count_view)
    before = [view(second.pk).revision for view in views]
    canary_at(second, 0.5, 0.5, 0.5)
    after = [view(second.pk).revision for view in views]
    assert all(new > old for new, old in zip(after, before, strict=True))


@pytest.mark.parametrize("part", ["canary", "failures_count", "events_count", "decisions_count"])
def test_outside_of_ones_namespaces_there_is_no_such_box(cast, page_as, part):
    fleet.make_nodes(1, "lab")
    rollout = fleet.start(fleet.spec_of(namespace="lab"))
    address = reverse("live:fragment", args=["rollout", rollout.pk, part])
    assert page_as("ada").get(address).status_code == 200
    assert page_as("otto").get(address).status_code == 404

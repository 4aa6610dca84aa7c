"""The page of an execution, and the lists of rollouts and executions."""

import re

import pytest
from django.urls import reverse

from rollouts import services
from rollouts.execution_page import LOG_LINES, load_execution
from rollouts.fragments import EXECUTION
from rollouts.models import Execution
from tests.rollouts import fleet

pytestmark = pytest.mark.django_db


def text_of(client, path):
    answer = client.get(path)
    assert answer.status_code == 200, answer.status_code
    return answer.content.decode()


@pytest.fixture
def rollout(cast):
    """A rollout to 4 nodes at once."""
    fleet.make_nodes(4)
    return fleet.start(
        fleet.spec_of(strategy="rolling", max_parallel=100, max_failed_nodes_percent=100)
    )


@pytest.fixture
def one(rollout):
    """Its first execution."""
    return fleet.executions(rollout)[0]


# --- One execution -------------------------------------------------------------------------------


def test_the_page_shows_state_windows_and_what_is_wanted(one, page_as):
    fleet.become_bad(one)
    text = text_of(page_as("vera"), f"/executions/{one.pk}/")
    assert "Failed: 3 unhealthy windows in a row" in text
    assert "Last error: x509" in text
    assert "health_windows_unhealthy" in text
    assert text.count("> Over</span>") == 3
    assert re.search(r"<dt>Desired</dt><dd>stopped", text)


def test_the_log_is_plain_text_with_its_levels(one, page_as):
    fleet.report(
        one,
        fleet.heard(one),
        fleet.wrote(one, "\x1b[1;31mlevel=error msg=no\x1b[0m", "<script>alert(1)</script>"),
    )
    text = text_of(page_as("vera"), f"/executions/{one.pk}/")
    assert '<span class="lv-err">level=error msg=no</span>' in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "\x1b" not in text


def test_a_long_log_is_shown_from_its_end_with_its_own_line_numbers(one, page_as):
    fleet.report(one, fleet.heard(one))
    for number in range(1, 13):
        lines = [f"line {(number - 1) * 50 + i}" for i in range(1, 51)]
        fleet.report(one, fleet.wrote(one, *lines, number=number))
    text = text_of(page_as("vera"), f"/executions/{one.pk}/")
    assert text.count('class="log-line') == LOG_LINES
    assert re.search(r'id="L600">.*?<span>line 600</span>', text)
    assert "line 100</span>" not in text
    assert re.search(r'id="L101">.*?<span>line 101</span>', text)


def test_a_result_shows_exit_code_and_output(cast, page_as):
    fleet.make_nodes(1)
    (execution,) = fleet.executions(fleet.start(fleet.script_of()))
    fleet.report(
        execution,
        fleet.heard(execution),
        fleet.in_state(execution, "running"),
        fleet.ended(execution, "failed", output="6.8.0-<b>x</b>", error="boom", exit_code=3),
    )
    text = text_of(page_as("vera"), f"/executions/{execution.pk}/")
    assert re.search(r"<dt>Exit</dt><dd>3</dd>", text)
    assert "6.8.0-&lt;b&gt;x&lt;/b&gt;" in text
    assert "boom" in text
    assert "has no health windows" in text


def test_an_execution_leads_to_the_one_before_it_and_after_it(cast, page_as):
    fleet.make_nodes(1)
    fleet.completed(fleet.spec_of(mark="v1"))
    fleet.start(fleet.spec_of(mark="v2"))
    old, new = Execution.objects.order_by("created_at")
    client = page_as("vera")
    assert f"/executions/{new.pk}/" in text_of(client, f"/executions/{old.pk}/")
    assert f"/executions/{old.pk}/" in text_of(client, f"/executions/{new.pk}/")


def test_the_boxes_are_the_same_bytes_everywhere_and_their_revision_grows(one, page_as):
    client, seen = page_as("vera"), []
    for frames in (
        [fleet.heard(one)],
        [fleet.in_state(one, "starting")],
        [fleet.in_state(one, "running")],
        fleet.windows(one, 0.0, first=1),
        [fleet.wrote(one, "a", number=1)],
        [fleet.wrote(one, "b", number=2)],
    ):
        fleet.report(one, *frames)
        seen.append(load_execution(one.pk)[1])
    assert seen == sorted(set(seen))
    page = text_of(client, f"/executions/{one.pk}/")
    for part in EXECUTION.fragments:
        box = text_of(client, reverse("live:fragment", args=["execution", one.pk, part.name]))
        assert box.strip() in page, part.name


def test_an_execution_outside_of_ones_namespaces_is_not_there(cast, page_as):
    fleet.make_nodes(1, "lab")
    (execution,) = fleet.executions(fleet.start(fleet.spec_of(namespace="lab")))
    assert page_as("ada").get(f"/executions/{execution.pk}/").status_code == 200
    for name in ("otto", "vera", "nils"):
        assert page_as(name).get(f"/executions/{execution.pk}/").status_code == 404
        box = reverse("live:fragment", args=["execution", execution.pk, "log"])
        assert page_as(name).get(box).status_code == 404
    assert page_as().get(f"/executions/{execution.pk}/").status_code == 302


# --- Lists ---------------------------------------------------------------------------------------


def rows_of(text):
    """Return the first cell of each row of the list."""
    return re.findall(r'<th scope="row"><a href="[^"]+">([^<]+)</a>', text)


def test_the_list_of_rollouts_filters_by_job_and_state(rollout, page_as):
    other = fleet.start(fleet.spec_of("geo-enrich", strategy="rolling"))
    services.pause_rollout(fleet.ADA, other.job_id)
    client = page_as("vera")
    assert rows_of(text_of(client, "/rollouts/")) == ["geo-enrich", "log-shipper"]
    assert rows_of(text_of(client, "/rollouts/?job=geo&state=")) == ["geo-enrich"]
    assert rows_of(text_of(client, "/rollouts/?state=active")) == ["log-shipper"]
    assert rows_of(text_of(client, "/rollouts/?state=awaiting_promotion")) == []
    text = text_of(client, "/rollouts/?job=nothing")
    assert "No rollout matches" in text
    assert "Clear the filter" in text


def test_the_list_of_rollouts_asks_again_while_one_is_under_way(rollout, page_as):
    moving = text_of(page_as("vera"), "/rollouts/?job=log")
    assert 'hx-get="/rollouts/?job=log" hx-trigger="every 3s"' in moving
    fleet.settle(rollout)
    assert "every 3s" not in text_of(page_as("vera"), "/rollouts/?job=log")


def test_the_rollouts_that_wait_for_a_person_can_be_listed(cast, page_as):
    fleet.make_nodes(3)
    fleet.settle(fleet.start(fleet.spec_of()))
    text = text_of(page_as("vera"), "/rollouts/?state=awaiting_promotion")
    assert rows_of(text) == ["log-shipper"]
    assert "Awaiting promotion" in text


def test_the_list_of_executions_filters_by_job_node_state_and_version(rollout, one, page_as):
    fleet.take_up(one)
    client, every = page_as("vera"), text_of(page_as("vera"), "/executions/")
    assert len(rows_of(every)) == 4
    name = one.node.name
    assert rows_of(text_of(client, f"/executions/?node={name}")) == [name]
    assert rows_of(text_of(client, "/executions/?state=validating&job=log")) == [name]
    assert len(rows_of(text_of(client, f"/executions/?version=v1&rollout={rollout.pk}"))) == 4
    for query in ("version=2", "version=x", "version=9999999999999", "rollout=x", "job=nothing"):
        assert "No execution matches" in text_of(client, f"/executions/?{query}")


@pytest.mark.parametrize("path", ["/rollouts/", "/executions/"])
def test_what_a_list_cannot_read_is_refused_and_not_guessed(cast, page_as, path):
    for query in ("?nonsense=1", "?limit=x", "?next_token=x"):
        assert page_as("vera").get(path + query).status_code in (400, 422)


@pytest.mark.parametrize("path", ["/rollouts/", "/executions/"])
def test_an_empty_list_says_which_kind_of_empty_it_is(cast, page_as, path):
    assert "No rollouts yet" in text_of(page_as("vera"), "/rollouts/")
    assert "No executions yet" in text_of(page_as("vera"), "/executions/")
    assert "rollout:read in no namespace" in text_of(page_as("nils"), path)


@pytest.mark.parametrize("path", ["/rollouts/", "/executions/"])
def test_lists_show_only_ones_own_namespaces(cast, page_as, path):
    fleet.make_nodes(1, "lab")
    fleet.make_nodes(1, "prod")
    fleet.start(fleet.spec_of("in-lab", "lab"))
    fleet.start(fleet.spec_of("in-prod", "prod"))
    seen = {name: text_of(page_as(name), path) for name in ("ada", "vera", "nils")}
    assert ("in-lab" in seen["ada"], "in-prod" in seen["ada"]) == (True, True)
    assert ("in-lab" in seen["vera"], "in-prod" in seen["vera"]) == (False, True)
    assert ("in-lab" in seen["nils"], "in-prod" in seen["nils"]) == (False, False)
    assert "in-lab" not in text_of(page_as("ada"), f"{path}?namespace=prod")
    assert "in-lab" not in text_of(page_as("vera"), f"{path}?namespace=lab")


def test_pages_of_a_list_neither_skip_nor_repeat(cast, page_as):
    fleet.make_nodes(25)
    fleet.start(fleet.spec_of(strategy="rolling", max_parallel=100))
    client, path, found = page_as("vera"), "/executions/?limit=10", []
    while path:
        text = text_of(client, path)
        found += rows_of(text)
        following = re.search(r'rel="next" href="([^"]+)"', text)
        path = following and "/executions/" + following[1].replace("&amp;", "&")
    assert len(found) == len(set(found)) == 25


def test_lists_take_as_many_queries_for_fifty_rows_as_for_five(
    cast, page_as, django_assert_max_num_queries
):
    fleet.make_nodes(5)
    client, counts = page_as("vera"), []
    for number in range(5):
        fleet.start(fleet.spec_of(f"job-{number}", strategy="rolling", max_parallel=100))
    for more in (0, 12):
        for number in range(more):
            fleet.start(fleet.spec_of(f"more-{number}", strategy="rolling", max_parallel=100))
        for path in ("/rollouts/", "/executions/?limit=100"):
            with django_assert_max_num_queries(15) as seen:
                text_of(client, path)
            counts.append(len(seen))
    assert counts[:2] == counts[2:]


# --- The panel of a job's page -------------------------------------------------------------------


def test_the_panel_of_a_job_shows_its_rollouts_and_executions(rollout, one, page_as):
    fleet.take_up(one)
    text = text_of(page_as("vera"), f"/rollouts/of-job/{rollout.job_id}/panel/")
    assert f"/rollouts/{rollout.pk}/" in text
    assert one.node.name in text
    assert "<html" not in text
    assert 'hx-trigger="every 2s"' in text


def test_the_panel_rests_when_nothing_moves(cast, page_as):
    fleet.make_nodes(1)
    rollout = fleet.completed(fleet.spec_of())
    text = text_of(page_as("vera"), f"/rollouts/of-job/{rollout.job_id}/panel/")
    assert "every 2s" not in text


def test_the_panel_of_a_foreign_job_is_not_there(rollout, page_as):
    path = f"/rollouts/of-job/{rollout.job_id}/panel/"
    assert page_as("nils").get(path).status_code == 404
    assert (
        page_as("vera").get(path.replace(str(rollout.job_id), str(rollout.pk))).status_code == 404
    )


def test_a_job_leads_to_its_newest_rollout_with_the_question_asked(rollout, page_as):
    newer = fleet.start(fleet.spec_of(mark="v2", strategy="rolling"))
    path = f"/rollouts/of-job/{rollout.job_id}/?confirm=cancel"
    assert page_as("vera").get(path)["Location"] == f"/rollouts/{newer.pk}/?confirm=cancel"
    assert page_as("nils").get(path).status_code == 404


def test_the_panel_of_a_node_shows_what_should_run_there_first(cast, page_as):
    (node,) = fleet.make_nodes(1)
    fleet.completed(fleet.spec_of("old", strategy="rolling"))
    fleet.completed(fleet.spec_of("old", mark="v2", strategy="rolling"))
    text = text_of(page_as("vera"), f"/executions/of-node/{node.pk}/panel/")
    assert text.index(">v2<") < text.index(">v1<")
    assert len(rows_of(text_of(page_as("vera"), f"/executions/?node={node.pk}"))) == 2
    assert page_as("nils").get(f"/executions/of-node/{node.pk}/panel/").status_code == 404

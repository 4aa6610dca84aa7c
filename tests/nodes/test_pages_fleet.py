"""The list of nodes: who sees which, its filters, its picture, and what its buttons do."""

import re

import pytest
from django.urls import reverse

from access.models import AuditEntry
from nodes import grid
from nodes.models import Node, NodeEvent
from tests.rollouts import fleet
from tests.rollouts.rows import make_node

pytestmark = pytest.mark.django_db


def get(client, query=""):
    return client.get(f"/nodes/{query}")


def text_of(client, query=""):
    answer = get(client, query)
    assert answer.status_code == 200
    return answer.content.decode()


def names_in(text):
    return re.findall(r'aria-label="Select ([^"]+)"', text)


def chips_in(text):
    found = re.findall(r'class="chip[^>]*>(\w+) <span class="count">([\d,]+)</span>', text)
    return {word.lower(): count for word, count in found}


@pytest.fixture
def some(cast):
    """Five nodes in prod: three ready gateways, one lost, one silent; and one in lab."""
    ready = fleet.make_nodes(3, labels={"region": "fra"})
    lost = fleet.make_nodes(1, prefix="waw", labels={"region": "waw"}, connection="lost")
    fleet.make_nodes(1, prefix="mad", connection="disconnected")
    fleet.make_nodes(1, "lab", prefix="lab")
    return ready, lost[0]


def test_a_stranger_is_asked_to_sign_in(page_as):
    assert get(page_as()).status_code == 302


def test_people_see_the_nodes_of_their_namespaces_alone(some, page_as):
    assert len(names_in(text_of(page_as("vera")))) == 5
    assert len(names_in(text_of(page_as("ada")))) == 6
    text = text_of(page_as("nils"))
    assert names_in(text) == []
    assert "agent:read" in text


def test_the_chips_count_by_badge_and_narrow_the_list(some, page_as):
    browser = page_as("vera")
    chips = chips_in(text_of(browser))
    assert (chips["all"], chips["ready"], chips["lost"], chips["disconnected"]) == (
        "5", "3", "1", "1",
    )  # fmt: skip
    assert names_in(text_of(browser, "?badge=lost")) == [some[1].name]


def test_labels_and_names_narrow_the_list_and_offer_a_selector(some, page_as):
    browser = page_as("vera")
    text = text_of(browser, "?labels=region%20in%20(fra,par),role=gateway")
    assert len(names_in(text)) == 3
    assert "3 of 5 match" in text
    assert "region in (fra,par)" in text
    assert names_in(text_of(browser, "?name=WAW")) == [some[1].name]
    assert "No node matches" in text_of(browser, "?name=nothing-like-it")


def test_a_filter_that_cannot_be_read_says_where(some, page_as):
    answer = get(page_as("vera"), "?labels=region%20in%20()")
    assert answer.status_code == 422
    assert "column 12" in answer.content.decode()


def test_an_unknown_parameter_is_refused(some, page_as):
    assert get(page_as("vera"), "?lables=x").status_code == 400


def test_an_empty_namespace_says_how_nodes_come(cast, page_as):
    assert "No nodes yet" in text_of(page_as("vera"))


def test_pages_follow_each_other_without_a_gap(cast, page_as):
    fleet.make_nodes(7)
    browser, seen, query = page_as("vera"), [], "?limit=3"
    for _ in range(3):
        text = text_of(browser, query)
        seen += names_in(text)
        found = re.search(r'rel="next" href="([^"]+)"', text)
        query = found[1].replace("&amp;", "&") if found else ""
        query += "&limit=3" if query else ""
    assert query == ""
    assert len(seen) == len(set(seen)) == 7
    assert seen == sorted(seen)


def test_the_grid_has_a_square_for_each_node_grouped_by_a_label(some, page_as):
    text = text_of(page_as("vera"), "?view=grid&group=region")
    assert text.count('class="cell mark') == 5
    assert re.search(r"<dt>fra<small[^>]*> 3<", text)
    assert re.search(r"<dt>without region<small[^>]*> 1<", text)
    assert "is-lost" in text


def test_a_grid_of_too_many_nodes_is_counted(some, page_as, monkeypatch):
    monkeypatch.setattr(grid, "FOLD_ABOVE", 4)
    text = text_of(page_as("vera"), "?view=grid&group=region")
    assert 'class="cell mark' not in text
    assert re.search(r"<dt>fra<small[^>]*> 3<", text)
    assert re.search(r"<dt>without region<small[^>]*> 1<", text)
    assert re.search(r"<dt>All nodes<small[^>]*> 5<", text_of(page_as("vera"), "?view=grid"))


def test_hostile_names_and_labels_stay_text(cast, page_as):
    node = fleet.make_nodes(1)[0]
    evil = "<script>alert(1)</script>"
    Node.objects.filter(pk=node.pk).update(name=evil, labels={"k": evil}, hostname=evil)
    for query in ("", "?view=grid", "?view=grid&group=k"):
        text = text_of(page_as("vera"), query)
        assert evil not in text
        assert "&lt;script&gt;alert(1)" in text


@pytest.mark.parametrize("query", ["", "?view=grid&group=role"])
def test_the_number_of_queries_does_not_grow_with_the_fleet(
    cast, page_as, django_assert_max_num_queries, query
):
    browser = page_as("vera")
    fleet.make_nodes(5)
    with django_assert_max_num_queries(16):
        text_of(browser, query)
    fleet.make_nodes(45)
    with django_assert_max_num_queries(16):
        text_of(browser, query)


# --- Joining -------------------------------------------------------------------------------------


def test_who_asks_to_join_is_shown_with_the_fingerprint(cast, page_as):
    node, _ = make_node(auto_accept=False)
    text = text_of(page_as("ada"))
    assert "1 node asks" in text
    assert node.fingerprint in text
    assert f'action="/nodes/{node.pk}/accept/"' in text
    text = text_of(page_as("otto"))
    assert node.fingerprint in text
    assert f'action="/nodes/{node.pk}/accept/"' not in text
    assert "Needs the permission agent:write in namespace prod" in text


def test_accepting_takes_the_fingerprint_that_was_shown(cast, page_as):
    node, _ = make_node(auto_accept=False)
    browser = page_as("ada")
    browser.post(f"/nodes/{node.pk}/accept/", {"fingerprint": "sha256:other", "back": "list"})
    node.refresh_from_db()
    assert node.enrolment_state == "pending"
    said = {"fingerprint": node.fingerprint, "back": "list"}
    answer = browser.post(f"/nodes/{node.pk}/accept/", said)
    assert (answer.status_code, answer["Location"]) == (303, "/nodes/")
    node.refresh_from_db()
    assert node.enrolment_state == "accepted"
    assert AuditEntry.objects.filter(action="node.accepted", actor="ada").count() == 1


# --- Many at once --------------------------------------------------------------------------------


def test_many_nodes_are_cordoned_after_a_second_step(some, page_as):
    ready, lost = some
    said = {"verb": "cordon", "node": [str(node.pk) for node in (*ready, lost)]}
    browser = page_as("ada")
    text = browser.post("/nodes/bulk/", said).content.decode()
    assert "Cordon 4 nodes?" in text
    assert Node.objects.filter(scheduling_state="ready").count() == 6
    answer = browser.post("/nodes/bulk/", said | {"confirmed": "1"})
    assert answer.status_code == 303
    assert Node.objects.filter(scheduling_state="cordoned").count() == 4
    assert AuditEntry.objects.filter(action="node.drain", actor="ada").count() == 4


def test_one_that_cannot_be_changed_leaves_the_others_be(some, page_as):
    ready, _ = some
    browser = page_as("ada")
    browser.post(f"/nodes/{ready[0].pk}/cordon/")
    said = {"verb": "drain", "node": [str(n.pk) for n in ready], "confirmed": "1"}
    text = browser.post("/nodes/bulk/", said, follow=True).content.decode()
    assert "2 of 3 nodes drained" in text
    assert "1 left as they were" in text


def test_many_nodes_need_the_permission_in_each_namespace(some, page_as):
    ready, _ = some
    foreign = Node.objects.get(namespace_id="lab")
    said = {"verb": "cordon", "confirmed": "1"}
    answer = page_as("otto").post("/nodes/bulk/", said | {"node": [str(ready[0].pk)]})
    assert "agent:write" in answer.content.decode()
    both = [str(ready[0].pk), str(foreign.pk)]
    assert page_as("otto").post("/nodes/bulk/", said | {"node": both}).status_code == 404
    assert not NodeEvent.objects.filter(kind="node.draining").exists()


def test_no_selection_an_unknown_verb_and_nonsense_change_nothing(some, page_as):
    browser = page_as("ada")
    assert browser.post("/nodes/bulk/", {"verb": "cordon"}).status_code == 303
    assert browser.post("/nodes/bulk/", {"verb": "explode", "node": "x"}).status_code == 404
    assert browser.post("/nodes/bulk/", {"verb": "cordon", "node": "x"}).status_code == 404


def test_the_rail_counts_the_nodes_of_the_namespaces_shown(some, page_as):
    assert reverse("nodes:list") == "/nodes/"
    assert "<small>5 nodes</small>" in text_of(page_as("vera"))

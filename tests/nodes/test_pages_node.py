"""The page of one node: what it shows to whom, its labels editor, and what its buttons do."""

from datetime import UTC, datetime, timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from access.models import AuditEntry
from live.registry import noun_named
from nodes.models import Node, NodeEvent
from nodes.node_page import day_notes, day_segments
from nodes.services import change_node_labels
from tests.rollouts import fleet
from tests.rollouts.rows import make_node

pytestmark = pytest.mark.django_db
EVIL = "<script>alert(1)</script>"


@pytest.fixture
def node(cast):
    return fleet.make_nodes(1, labels={"region": "fra"})[0]


def text_of(client, node, query=""):
    answer = client.get(f"/nodes/{node.pk}/{query}")
    assert answer.status_code == 200
    return answer.content.decode()


def test_the_page_is_there_for_readers_of_the_namespace_alone(node, page_as):
    for name in ("ada", "otto", "vera"):
        assert node.name in text_of(page_as(name), node)
    assert page_as("nils").get(f"/nodes/{node.pk}/").status_code == 404
    assert page_as().get(f"/nodes/{node.pk}/").status_code == 302
    (foreign,) = fleet.make_nodes(1, "lab")
    assert page_as("vera").get(f"/nodes/{foreign.pk}/").status_code == 404


def test_buttons_without_the_permission_are_shown_and_say_why(node, page_as):
    text = text_of(page_as("otto"), node)
    assert "Needs the permission agent:write in namespace prod." in text
    assert f'action="/nodes/{node.pk}/cordon/"' not in text
    assert "Set labels" not in text
    for verb in ("cordon", "drain", "revoke", "delete", "labels"):
        assert page_as("otto").post(f"/nodes/{node.pk}/{verb}/").status_code == 403
    node.refresh_from_db()
    assert (node.scheduling_state, node.enrolment_state) == ("ready", "accepted")


@pytest.mark.parametrize(
    ("verb", "column", "value"),
    [
        ("drain", "scheduling_state", "cordoned"),
        ("revoke", "enrolment_state", "revoked"),
        ("delete", "connection_state", "deleted"),
    ],
)
def test_what_destroys_is_asked_again_with_the_consequence(node, page_as, verb, column, value):
    browser = page_as("ada")
    text = text_of(browser, node, f"?confirm={verb}")
    assert "No execution is on it now" in text
    assert f'action="/nodes/{node.pk}/{verb}/"' in text
    assert browser.post(f"/nodes/{node.pk}/{verb}/").status_code == 303
    assert getattr(Node.objects.get(pk=node.pk), column) == value
    assert AuditEntry.objects.filter(actor="ada", object_id=str(node.pk)).count() == 1


def test_a_question_stays_when_a_live_page_asks_for_the_buttons_again(node, page_as):
    browser = page_as("ada")
    text = text_of(browser, node, "?confirm=drain")
    assert f'hx-include="#node-{node.pk}-controls [name=confirm]"' in text
    assert '<input type="hidden" name="confirm" value="drain">' in text
    again = browser.get(f"/nodes/{node.pk}/controls/?confirm=drain").content.decode()
    assert "Keep it working" in again


def test_a_button_that_came_too_late_says_so(node, page_as):
    browser = page_as("ada")
    text = browser.post(f"/nodes/{node.pk}/undrain/", follow=True).content.decode()
    assert "The node is ready." in text


def test_the_buttons_follow_the_state(node, page_as):
    browser = page_as("ada")
    browser.post(f"/nodes/{node.pk}/cordon/")
    text = browser.get(f"/nodes/{node.pk}/controls/").content.decode()
    assert "Uncordon" in text
    assert "Cordon<" not in text
    assert "Undrain" not in text
    waiting, _ = make_node(auto_accept=False)
    text = text_of(browser, waiting)
    assert f'name="fingerprint" value="{waiting.fingerprint}"' in text
    assert "Drain" not in text


# --- Labels --------------------------------------------------------------------------------------


def test_labels_are_shown_side_by_side_and_edited_as_lines(node, page_as):
    browser = page_as("ada")
    said = {"labels": "site = fra-2\nregion=par\ngpu\n", "before": "{}"}
    assert browser.post(f"/nodes/{node.pk}/labels/", said).status_code == 303
    node.refresh_from_db()
    assert node.operator_labels == {"site": "fra-2", "region": "par", "gpu": ""}
    assert node.labels == {"role": "gateway", "site": "fra-2", "region": "par", "gpu": ""}
    text = text_of(browser, node)
    assert "<s>fra</s>" in text
    assert "site=fra-2" in text


def test_editing_keeps_what_another_person_set_meanwhile(node, page_as):
    change_node_labels(node.pk, {"a": "1", "b": "2"})
    before = '{"a": "1", "b": "2"}'
    change_node_labels(node.pk, {"c": "3"})
    page_as("ada").post(f"/nodes/{node.pk}/labels/", {"labels": "a=9", "before": before})
    node.refresh_from_db()
    assert node.operator_labels == {"a": "9", "c": "3"}


@pytest.mark.parametrize(
    ("lines", "word"),
    [("ok=1\nnot a key=2", "Line 2"), ("a=1\na=2", "stands twice"), ("=x", "Line 1")],
)
def test_lines_that_are_no_labels_come_back_with_the_line(node, page_as, lines, word):
    said = {"labels": lines, "before": "not even json"}
    answer = page_as("ada").post(f"/nodes/{node.pk}/labels/", said)
    assert answer.status_code == 422
    assert word in answer.content.decode()
    assert lines.splitlines()[0] in answer.content.decode()
    node.refresh_from_db()
    assert node.operator_labels == {}


# --- What the agent said -------------------------------------------------------------------------


def test_use_conditions_facts_and_abilities_are_shown(node, page_as):
    Node.objects.filter(pk=node.pk).update(
        resource_usage={"cpu_percent": 22.4, "disk_percent": 97, "disk_used_bytes": 56e9,
                        "disk_capacity_bytes": 58e9},
        conditions=[{"type": "DiskPressure", "status": True, "reason": "the disk is at 97 %"}],
        facts={"kernel_version": "5.10", "os_info": {"distribution": "debian"}, "cpus": [1, 2]},
    )  # fmt: skip
    browser = page_as("vera")
    text = text_of(browser, node)
    assert "22%" in text
    assert "56 GB of 58 GB" in text
    assert "the disk is at 97 %" in text
    assert "Kernel version" in text_of(browser, node, "?tab=facts")
    assert "generate" in text_of(browser, node, "?tab=abilities")
    assert browser.get(f"/nodes/{node.pk}/?tab=nothing").status_code == 404


@pytest.mark.parametrize("odd", [None, [], "x", 7, {"cpu_percent": "many"}, {"a": [{"b": EVIL}]}])
def test_whatever_an_agent_says_the_page_stands_and_shows_it_as_text(node, page_as, odd):
    shape = odd if isinstance(odd, dict) else {"odd": odd}
    Node.objects.filter(pk=node.pk).update(
        name=EVIL,
        message=EVIL,
        resource_usage=shape,
        facts=shape | {EVIL: EVIL},
        capabilities=shape | {EVIL: [EVIL]},
        conditions=[odd, {"type": EVIL, "status": odd, "reason": EVIL}],
    )
    for query in ("", "?tab=facts", "?tab=abilities", "?tab=events", "?confirm=drain"):
        text = text_of(page_as("ada"), node, query)
        assert EVIL not in text
        assert "&lt;script&gt;" in text


# --- Events and the day --------------------------------------------------------------------------


def add_events(node, count):
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    NodeEvent.objects.bulk_create(
        NodeEvent(node=node, at=now, kind="node.connected", message=f"event no {n:03d}")
        for n in range(count)
    )


def test_the_newest_events_are_shown_and_the_rest_by_pages(node, page_as):
    add_events(node, 60)
    browser = page_as("vera")
    text = text_of(browser, node)
    assert text.count("event no ") == 12
    first = text_of(browser, node, "?tab=events")
    assert first.count("event no ") == 50
    assert 'rel="next"' in first


def test_the_day_is_read_from_the_events():
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    told = [
        ("node.connected", 30), ("node.disconnected", 6), ("node.connected", 5),
        ("node.draining", 2), ("node.undrained", 1),
    ]  # fmt: skip
    events = [NodeEvent(kind=kind, at=now - timedelta(hours=hours)) for kind, hours in told]
    hour = 3600
    assert day_segments(events, now) == [
        ("ok", 18 * hour, "ready"),
        ("off", hour, "disconnected"),
        ("ok", 3 * hour, "ready"),
        ("warn", hour, "draining"),
        ("ok", hour, "ready"),
    ]
    assert day_segments([], now) == [("none", 24 * hour, "unknown")]


def test_what_the_bar_shows_by_colour_is_also_said_in_words():
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)

    def event(hours, kind):
        return NodeEvent(at=now - timedelta(hours=hours), kind=kind)

    events = [
        event(30, "node.connected"),
        event(5, "node.disconnected"),
        event(4, "node.connected"),
    ]
    events += [event(2, "node.draining"), event(1, "node.undrained")]
    assert day_notes(day_segments(events, now), now) == (
        (now - timedelta(hours=5), "disconnected for 1 h 0 min"),
        (now - timedelta(hours=2), "draining for 1 h 0 min"),
    )


def test_the_day_says_when_the_node_was_away(node, page_as):
    ago = timezone.now() - timedelta(hours=3)
    for minutes, kind in ((0, "node.connected"), (60, "node.lost"), (90, "node.connected")):
        NodeEvent.objects.create(node=node, at=ago + timedelta(minutes=minutes), kind=kind)
    assert "lost for 30 min" in text_of(page_as("vera"), node).partition("</svg>")[2]


def test_a_ready_node_has_no_message_beside_its_badge_and_another_one_has(node, page_as):
    Node.objects.filter(pk=node.pk).update(message="its agent reports other labels")
    assert "its agent reports" not in text_of(page_as("vera"), node)
    Node.objects.filter(pk=node.pk).update(
        message="not heard for a while", connection_state="disconnected"
    )
    assert "not heard for a while" in text_of(page_as("vera"), node)


def test_conditions_are_named_in_words(node, page_as):
    said = [{"type": "MemoryPressure", "status": False}, {"type": "HighCPU", "status": True}]
    Node.objects.filter(pk=node.pk).update(conditions=said)
    text = text_of(page_as("vera"), node)
    assert "Memory pressure: no" in text
    assert "HighCPU" in text


def test_the_number_of_queries_does_not_grow(node, page_as, django_assert_max_num_queries):
    browser = page_as("vera")
    for _ in range(2):
        with django_assert_max_num_queries(24):
            text_of(browser, node)
        add_events(node, 50)


def test_every_live_box_is_the_same_text_in_the_page_and_alone(node, page_as):
    browser = page_as("vera")
    page = text_of(browser, node)
    for fragment in noun_named("node").fragments:
        address = reverse("live:fragment", args=["node", node.pk, fragment.name])
        alone = browser.get(address).content.decode()
        assert f'id="node-{node.pk}-{fragment.name}"' in alone
        if fragment.name != "day":  # it begins a day before now, and now moved on
            assert alone.strip() in page, fragment.name
        assert page_as("nils").get(address).status_code == 404

"""The page of a rollout: what it shows, to whom, and what its buttons do."""

import re

import pytest
from django.urls import reverse

from rollouts import services
from rollouts.board import MOST_MARKS, load_board
from rollouts.fragments import ROLLOUT
from rollouts.marks import Wave
from rollouts.models import Rollout
from rollouts.rows import wave_bar
from tests.rollouts import fleet

pytestmark = pytest.mark.django_db
TABS = ("failures", "events", "decisions", "health", "spec", "parameters")


def path_of(rollout, verb=""):
    return f"/rollouts/{rollout.pk}/" + (f"{verb}/" if verb else "")


def text_of(client, path):
    answer = client.get(path)
    assert answer.status_code == 200, answer.status_code
    return answer.content.decode()


@pytest.fixture
def canary(cast):
    """A second version whose canary is out, on 6 nodes."""
    fleet.make_nodes(6)
    fleet.completed(fleet.spec_of(mark="v1"))
    return fleet.start(fleet.spec_of(mark="v2"), reason="CHG-4417")


@pytest.fixture
def gate(canary):
    """The same, its canary stable."""
    return fleet.settle(canary)


def marks(text):
    """Count the marks of each kind that are links."""
    return {
        kind: len(re.findall(rf'<a class="mark is-{kind}"', text))
        for kind in ("stable", "validating", "starting", "waiting", "failed", "restored")
    }


# --- What it shows -------------------------------------------------------------------------------


def test_the_page_shows_job_versions_waves_and_one_mark_a_node(canary, page_as):
    text = text_of(page_as("vera"), path_of(canary))
    assert "log-shipper" in text
    assert "CHG-4417" in text
    assert re.search(r"v1 <svg.*?</svg>\s*v2", text, re.DOTALL)
    assert "Rolling, wave 1 of 3" in text
    assert text.count('class="wave') >= 3
    assert marks(text) == {
        "stable": 0,
        "validating": 0,
        "starting": 1,
        "waiting": 5,
        "failed": 0,
        "restored": 0,
    }


def test_marks_follow_what_nodes_report(canary, page_as):
    fleet.stop_what_should(canary.job_id)
    (one,) = fleet.executions(canary)
    fleet.take_up(one)
    assert marks(text_of(page_as("vera"), path_of(canary)))["validating"] == 1
    fleet.report(one, *fleet.windows(one, 0, 0))
    assert marks(text_of(page_as("vera"), path_of(canary)))["stable"] == 1


def test_a_gate_says_what_it_waits_on_and_since_when(gate, page_as):
    text = text_of(page_as("vera"), path_of(gate))
    assert "Awaiting promotion" in text
    assert "The canary is stable on 1 of 1 nodes." in text
    assert re.search(r"Waiting on <b>a promotion</b> since", text)
    assert "canary.gate" in text


def test_the_sentence_about_a_wave_has_a_deadline_that_counts_down(canary, page_as):
    fleet.stop_what_should(canary.job_id)
    text = text_of(page_as("vera"), path_of(canary))
    assert re.search(r"Wave 2 waits on <b>1 node</b> to settle; its deadline ends", text)
    assert "data-until" in text


def test_a_halted_rollout_says_why_and_leads_to_its_rollback(cast, page_as):
    fleet.make_nodes(6)
    fleet.completed(fleet.spec_of(mark="v1"))
    rollout = fleet.start(fleet.spec_of(mark="v2"))
    fleet.stop_what_should(rollout.job_id)
    fleet.become_bad(fleet.executions(rollout)[0])
    rollout.refresh_from_db()
    assert rollout.state == "halted"
    rollback = Rollout.objects.exclude(pk=rollout.pk).latest("started_at")
    text = text_of(page_as("vera"), path_of(rollout))
    assert "Halted in wave 1: a canary failed" in text
    assert path_of(rollback) in text
    assert "Never opened" in text
    assert "x509: certificate signed by unknown authority" in text
    assert marks(text)["failed"] == 1
    assert "canary.failed" in text


def test_failures_that_differ_in_numbers_only_are_one_group(cast, page_as):
    fleet.make_nodes(10)
    spec = fleet.spec_of(strategy="rolling", max_parallel=100, max_failed_nodes_percent=100)
    rollout = fleet.start(spec)
    one, other, third = fleet.executions(rollout)[:3]
    for execution, rate in ((one, 1.0), (other, 0.9)):
        fleet.take_up(execution)
        fleet.report(execution, *fleet.windows(execution, rate, rate, rate))
    fleet.report(third, fleet.heard(third), fleet.in_state(third, "failed", error_code="bad_spec"))
    text = text_of(page_as("vera"), path_of(rollout) + "?tab=failures")
    table = re.search(r"<tbody>.*?What|<table class=\"data\">.*?</table>", text, re.DOTALL)[0]
    assert table.count("<tr>") == 3  # the head and two groups
    assert f"{one.node.name}</a>, <a" in table
    assert "3 nodes failed." in text
    assert "it halts at failure 11" in text


def test_each_tab_is_rendered_on_the_server(gate, page_as):
    client = page_as("vera")
    texts = {tab: text_of(client, path_of(gate) + f"?tab={tab}") for tab in TABS}
    assert "rollout.paused" in texts["events"]
    assert "a person must promote" in texts["decisions"]
    assert "Window 1: 0.0% errors" in texts["health"]
    assert re.search(r"root.mark = .*v1.* → .*v2", texts["spec"])
    assert "restarts" in texts["spec"]
    assert "no, a person promotes" in texts["parameters"]


@pytest.mark.parametrize("query", ["?tab=nonsense", "?node=nonsense", "?node=" + "0" * 32])
def test_a_tab_or_a_node_that_is_not_there_is_not_found(canary, page_as, query):
    assert page_as("vera").get(path_of(canary) + query).status_code == 404


def test_the_drawer_shows_a_nodes_windows_and_log_and_leads_on(gate, page_as):
    (one,) = fleet.executions(gate)
    fleet.report(one, fleet.wrote(one, "\x1b[31mred\x1b[0m <b>bold</b>"))
    text = text_of(page_as("vera"), path_of(gate) + f"?node={one.node_id}")
    drawer = re.search(r'<section class="drawer".*?</section>', text, re.DOTALL)[0]
    assert "red &lt;b&gt;bold&lt;/b&gt;" in drawer
    assert "\x1b" not in drawer
    assert "highest 1.0%, now 1.0%" in drawer
    assert f"/executions/{one.pk}/" in drawer


def test_the_drawer_of_a_node_whose_turn_has_not_come_says_so(canary, page_as):
    node = canary.targets.filter(state="remaining").first().node_id
    text = text_of(page_as("vera"), path_of(canary) + f"?node={node}")
    assert "Nothing has been sent to it" in text


def test_many_nodes_are_bars_of_counts_instead_of_marks(cast, page_as):
    fleet.make_nodes(MOST_MARKS + 1)
    rollout = fleet.start(fleet.spec_of(strategy="rolling", max_parallel=10))
    text = text_of(page_as("vera"), path_of(rollout))
    assert sum(marks(text).values()) == 0
    assert f"{-(-(MOST_MARKS + 1) // 10)} starting" in text
    assert f"{MOST_MARKS - MOST_MARKS // 10}</b> not sent" in text


def test_hostile_texts_are_only_texts(cast, page_as):
    fleet.make_nodes(2, prefix="<script>alert(1)</script>", labels={"a": "<img src=x>"})
    spec = fleet.spec_of(strategy="rolling", max_parallel=100, max_failed_nodes_percent=100)
    rollout = fleet.start(spec, reason="<script>alert(2)</script>")
    one = fleet.executions(rollout)[0]
    text = "<script>alert(3)</script>"
    fleet.report(
        one,
        fleet.heard(one),
        fleet.wrote(one, text),
        fleet.in_state(one, "failed", message=text),
    )
    client = page_as("vera")
    for query in (*(f"?tab={tab}" for tab in TABS), f"?node={one.node_id}"):
        page = text_of(client, path_of(rollout) + query)
        assert "<script>alert" not in page
        assert "<img src=x>" not in page


# --- Live boxes ----------------------------------------------------------------------------------


def test_page_refresh_and_push_are_the_same_bytes(gate, page_as):
    client = page_as("vera")
    pages = "".join(text_of(client, path_of(gate) + f"?tab={tab}") for tab in TABS)
    for part in ROLLOUT.fragments:
        box = text_of(client, reverse("live:fragment", args=["rollout", gate.pk, part.name]))
        assert box.strip() in pages, part.name
        assert box == part.render(str(gate.pk))


def test_the_revision_grows_with_everything_that_boxes_show(canary):
    seen = [load_board(canary.pk).revision]

    def look():
        seen.append(load_board(canary.pk).revision)

    fleet.stop_what_should(canary.job_id)
    (one,) = fleet.executions(canary)
    for frames in (
        [fleet.heard(one)],
        [fleet.in_state(one, "starting")],
        [fleet.in_state(one, "running")],
        fleet.windows(one, 0.0, first=1),
        fleet.windows(one, 0.0, first=2),
    ):
        fleet.report(one, *frames)
        look()
    services.promote_rollout(fleet.ADA, canary.job_id)
    look()
    services.pause_rollout(fleet.ADA, canary.job_id)
    look()
    assert seen == sorted(set(seen))


def test_live_boxes_hold_nothing_that_could_be_typed_into(gate):
    for part in ROLLOUT.fragments:
        assert not re.search(r"<(form|input|button|select|textarea)\b", part.render(str(gate.pk)))


def test_the_number_of_queries_does_not_depend_on_the_number_of_nodes(
    cast, page_as, django_assert_max_num_queries
):
    counts = []
    for size in (5, 45):
        fleet.make_nodes(size)
        spec = fleet.spec_of(
            f"job-{size}", strategy="rolling", max_parallel=100, max_failed_nodes_percent=100
        )
        rollout = fleet.start(spec)
        for execution in fleet.executions(rollout)[: size // 2]:
            fleet.take_up(execution)
            fleet.report(execution, *fleet.windows(execution, 0.01))
        for tab in TABS:
            with django_assert_max_num_queries(60) as seen:
                text_of(page_as("vera"), path_of(rollout) + f"?tab={tab}")
            counts.append((tab, len(seen)))
    assert counts[: len(TABS)] == counts[len(TABS) :]


# --- Who may look --------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["", "?tab=health"])
def test_outside_of_ones_namespaces_there_is_no_rollout(cast, page_as, query):
    fleet.make_nodes(1, "lab")
    rollout = fleet.start(fleet.spec_of(namespace="lab"))
    assert page_as("ada").get(path_of(rollout) + query).status_code == 200
    for name in ("otto", "vera", "nils"):
        assert page_as(name).get(path_of(rollout) + query).status_code == 404
        box = reverse("live:fragment", args=["rollout", rollout.pk, "head"])
        assert page_as(name).get(box).status_code == 404
        assert page_as(name).post(path_of(rollout, "pause")).status_code == 404


def test_strangers_are_sent_to_the_sign_in_page(canary, page_as):
    answer = page_as().get(path_of(canary))
    assert answer.status_code == 302
    assert "/sign-in/" in answer["Location"]


def test_a_viewers_buttons_name_the_permission_that_is_missing(canary, page_as):
    text = text_of(page_as("vera"), path_of(canary))
    assert text.count("Needs the permission rollout:write in namespace prod.") >= 4
    assert 'action="/rollouts/' not in text
    for verb in ("pause", "resume", "promote", "cancel", "rollback"):
        assert page_as("vera").post(path_of(canary, verb)).status_code == 403
    canary.refresh_from_db()
    assert canary.state == "active"


# --- Buttons -------------------------------------------------------------------------------------


def press(client, rollout, verb, **fields):
    answer = client.post(path_of(rollout, verb), fields)
    assert answer.status_code == 303, answer.content[:300]
    rollout.refresh_from_db()
    return client.get(answer["Location"]).content.decode()


def test_an_operator_pauses_and_resumes_without_script(canary, page_as):
    client = page_as("otto")
    assert f'action="{path_of(canary, "pause")}"' in text_of(client, path_of(canary))
    page = press(client, canary, "pause")
    assert canary.state == "paused"
    assert "Paused. No further wave opens." in page
    assert f'action="{path_of(canary, "resume")}"' in page
    press(client, canary, "resume")
    assert canary.state == "active"


def test_promoting_opens_the_next_wave(gate, page_as):
    page = press(page_as("otto"), gate, "promote")
    assert (gate.state, gate.current_wave) == ("active", 2)
    assert "Promoted." in page


def test_a_promotion_too_early_is_refused_in_words(canary, page_as):
    page = press(page_as("otto"), canary, "promote")
    assert "0 of 1 canaries are stable and well." in page
    assert not canary.canary_promoted


def test_the_state_machine_says_no_to_a_second_pause(canary, page_as):
    press(page_as("otto"), canary, "pause")
    assert "The rollout is paused already." in press(page_as("otto"), canary, "pause")


def test_cancelling_asks_first_with_the_consequence_in_numbers(gate, page_as):
    client = page_as("otto")
    page = text_of(client, path_of(gate))
    assert f'action="{path_of(gate, "cancel")}"' not in page
    assert "?confirm=cancel" in page
    asked = text_of(client, path_of(gate) + "?confirm=cancel")
    assert "1 node will keep v2; 5 nodes will get nothing more" in re.sub(r"\s+", " ", asked)
    press(client, gate, "cancel", reason="wrong config")
    assert gate.state == "cancelled"


def test_a_confirmation_survives_that_the_page_asks_for_its_buttons_again(gate, page_as):
    url = f"http://testserver{path_of(gate)}?confirm=cancel"
    answer = page_as("otto").get(path_of(gate, "controls"), headers={"HX-Current-URL": url})
    assert f'action="{path_of(gate, "cancel")}"' in answer.content.decode()
    plain = page_as("otto").get(path_of(gate, "controls")).content.decode()
    assert f'action="{path_of(gate, "promote")}"' in plain
    assert f'action="{path_of(gate, "cancel")}"' not in plain


def test_rolling_back_makes_a_version_and_leads_to_its_rollout(gate, page_as):
    client = page_as("otto")
    assert "It gets a new version v3" in text_of(client, path_of(gate) + "?confirm=rollback")
    answer = client.post(path_of(gate, "rollback"), {"reason": "bad"})
    newest = Rollout.objects.get(version__number=3, job=gate.job)
    assert answer["Location"] == path_of(newest)
    assert newest.rollout_type == "rollback"


def test_a_first_version_cannot_be_rolled_back_and_says_why(cast, page_as):
    fleet.make_nodes(2)
    rollout = fleet.start(fleet.spec_of())
    text = text_of(page_as("otto"), path_of(rollout))
    assert "There is no earlier version whose rollout completed." in text
    page = press(page_as("otto"), rollout, "rollback")
    assert "No other version ever completed its rollout." in page


def test_an_old_page_does_not_act_on_the_rollout_that_took_over(canary, page_as):
    newer = fleet.start(fleet.spec_of(mark="v3"))
    page = press(page_as("otto"), canary, "pause")
    newer.refresh_from_db()
    assert newer.state == "active"
    assert "This rollout has ended: superseded." in page
    assert "A newer version has taken its place." in press(page_as("otto"), canary, "rollback")
    assert path_of(newer) in page


def test_a_reason_that_is_too_long_is_refused(canary, page_as):
    page = press(page_as("otto"), canary, "pause", reason="x" * 1025)
    assert "The reason is too long" in page
    assert canary.state == "active"


def test_buttons_take_no_get(canary, page_as):
    assert page_as("otto").get(path_of(canary, "pause")).status_code == 405


def test_a_rollout_without_waves_has_a_full_bar_in_lists():
    """Every node had what it brings already: nothing was to be sent."""
    bar = wave_bar([Wave(title="", label="", is_wave=False, counts={"stable": 2})])
    assert [(each.fill, each.width) for each in bar if each.height == 7] == [("ok", "100.00")]

"""Components drawn from data: the words, the widths, the times, and that nothing is injected."""

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from django import forms
from django.template import engines
from hypothesis import given
from hypothesis import strategies as st

from jobs.states import JobState
from live.templatetags import components
from live.tones import TONES, mark_of, tone_of
from nodes.states import ConnectionState, EnrolmentState, SchedulingState
from rollouts.states import ObservedState, RolloutState, TargetState

NOON = datetime(2026, 11, 22, 14, 7, 52, tzinfo=UTC)
EVIL = "\"><script>alert('x')</script>"


@pytest.fixture(autouse=True)
def _plain_static(settings):
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }


def render(source, **context):
    return engines["django"].from_string(source).render(context)


@pytest.mark.parametrize("kind", [*JobState, *RolloutState, *ObservedState, *TargetState])
def test_every_state_of_jobs_and_rollouts_has_a_word_of_its_own_choice(kind):
    assert str(kind) in TONES


@pytest.mark.parametrize("kind", [*ConnectionState, *SchedulingState, *EnrolmentState])
def test_every_state_of_a_node_has_a_look(kind):
    assert f"node.{kind}" in TONES or str(kind) in TONES


def test_a_pending_node_asks_for_attention_and_a_pending_execution_does_not():
    assert tone_of("pending", "node").tone == "warn"
    assert tone_of("pending").tone == "off"


def test_every_glyph_and_tone_of_the_table_exists(settings):
    sprite = (settings.BASE_DIR / "static/icons.svg").read_text()
    css = (settings.BASE_DIR / "static/components.css").read_text()
    for key, look in TONES.items():
        assert f'id="{look.glyph}"' in sprite
        if key.startswith("mark."):
            assert f".mark.is-{key.removeprefix('mark.')} " in css
            assert look.tone == "none" or f".f-{look.tone} " in css
        else:
            assert look.tone == "active" or f".state.is-{look.tone} " in css


def test_every_icon_that_a_template_names_is_in_the_sprite(settings):
    sprite = (settings.BASE_DIR / "static/icons.svg").read_text()
    for file in (settings.BASE_DIR / "templates").rglob("*.html"):
        for name in re.findall(r"""{% icon ["']([\w-]+)["']""", file.read_text()):
            assert f'id="{name}"' in sprite, f"{file.name} draws {name}"


def test_the_sprite_needs_no_style_of_the_page_and_breaks_no_policy(settings):
    sprite = (settings.BASE_DIR / "static/icons.svg").read_text()
    assert not re.search(r"\b(class|style|on\w+)=|<script|<style", sprite)


def test_a_state_is_a_shape_and_a_word():
    html = components.state("awaiting_promotion", badge=True)
    assert html == (
        '<span class="state is-warn is-badge"><svg class="glyph" aria-hidden="true">'
        '<use href="/static/icons.svg#g-gate"/></svg> Awaiting promotion</span>'
    )
    assert '<span class="sr-only">Failed</span>' in components.state("failed", bare=True)
    assert "Rolling, wave 2 of 4" in components.state("active", word="Rolling, wave 2 of 4")


def test_an_unknown_state_shows_its_name_calmly():
    assert tone_of("half_way").word == "Half way"
    assert tone_of("half_way").tone == "off"
    assert mark_of("half_way") == "old"


def test_a_mark_with_an_address_says_name_and_state():
    html = components.mark(TargetState.UPDATED, "gw-1", "?node=gw-1", selected=True)
    assert 'class="mark is-stable is-selected"' in html
    assert 'aria-label="gw-1, stable"' in html
    assert components.mark("waiting") == '<span class="mark is-waiting"></span>'
    assert components.mark_run("failed", 3).count("is-failed") == 3
    assert components.mark_word("remaining") == "not sent"


def test_a_bar_leaves_the_room_of_what_is_not_yet_there():
    html = components.bar([("stable", 58), ("failed", 2), ("waiting", 20)], total=80)
    assert '<rect class="f-ok" x="0.00%" width="72.50%" height="100%"/>' in html
    assert '<rect class="f-bad" x="72.50%" width="2.50%" height="100%"/>' in html
    assert html.count("<rect") == 2
    assert 'aria-label="58 stable, 2 failed, 20 not sent"' in html


def test_an_empty_bar_is_still_named():
    assert components.bar([]) == '<svg class="bar" role="img" aria-label="nothing yet"></svg>'


@given(st.lists(st.tuples(st.sampled_from(["stable", "failed", "off"]), st.integers(0, 10**6))))
def test_the_pieces_of_a_bar_never_overlap_nor_pass_its_end(segments):
    html = components.bar(segments)
    pieces = [
        (float(x), float(width))
        for x, width in re.findall(r'x="([\d.]+)%" width="([\d.]+)%"', html)
    ]
    end = 0.0
    for x, width in pieces:
        assert x >= end - 0.02
        end = x + width
    assert end <= 100.02


def test_a_spark_marks_what_is_over_the_limit_and_leaves_gaps():
    html = components.spark([0.01, None, 0.07], limit=0.05)
    assert html.count('class="f-ok"') == 1
    assert html.count('class="f-bad"') == 1
    assert '<line class="s-limit' in html
    assert "3 values" in html


def test_times_are_utc_whatever_the_zone_they_come_in():
    local = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))
    expected = (
        '<time datetime="2026-11-22T14:07:52Z" title="2026-11-22 14:07:52 UTC" data-ago>'
        "2026-11-22 14:07:52 UTC</time>"
    )
    assert components.time_ago(local) == expected
    assert "data-until" in components.time_until(NOON)
    assert ">14:07:52<" in components.time_of_day(local)
    assert components.time_ago(None, "never") == '<span class="quiet">never</span>'


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (timedelta(0), "0 s"),
        (timedelta(milliseconds=240), "240 ms"),
        (timedelta(seconds=100), "1 min 40 s"),
        (timedelta(hours=2), "2 h"),
        (timedelta(hours=2, seconds=5), "2 h"),
        (timedelta(days=3, hours=4, minutes=9), "3 d 4 h"),
        (timedelta(seconds=-61), "-1 min 1 s"),
        (None, "\u2013"),
    ],
)
def test_a_length_of_time_is_said_in_its_two_largest_units(length, words):
    assert components.duration(length) == words


def test_counts_carry_separators_and_their_noun():
    assert components.thousands(1284) == "1,284"
    assert components.thousands(None) == "\u2013"
    assert components.plural(1, "node,nodes") == "1 node"
    assert components.plural(1284, "node,nodes") == "1,284 nodes"


@pytest.mark.parametrize(("size", "span"), [(13, 4), (82, 12), (71, 10), (0, 4)])
def test_a_wave_is_as_wide_as_the_ruler_says(size, span):
    assert components.wave_span(size, 82) == span


def test_a_ruler_of_empty_waves_does_not_divide_by_nothing():
    assert components.wave_span(0, 0) == 4


@pytest.mark.parametrize(
    "source",
    [
        "{% state evil %}",
        "{% state evil word=evil %}",
        "{% mark evil evil evil %}",
        "{% bar segments label=evil %}",
        "{% bar segments %}",
        "{% label evil evil %}",
        "{% copy evil what=evil %}",
        "{% icon evil evil %}",
        "{% spark values label=evil css=evil %}",
        '{% include "_toast.html" with text=evil level=evil %}',
        '{% include "_alert.html" with tone=evil strong=evil text=evil href=evil verb=evil %}',
        '{% include "_empty.html" with title=evil text=evil command=evil href=evil verb=evil %}',
        '{% include "_disabled.html" with id=evil verb=evil reason=evil %}',
        '{% include "_confirm.html" with question=evil consequence=evil action=evil verb=evil %}',
    ],
)
def test_what_people_wrote_is_text_never_markup(source):
    html = render(source, evil=EVIL, segments=[(EVIL, 1, EVIL)], values=[1.0])
    assert "<script" not in html
    assert '">' + "<script" not in html


class ReasonForm(forms.Form):
    """A form with every kind of control that the pages use."""

    reason = forms.CharField(help_text="Shown in the audit")
    text = forms.CharField(widget=forms.Textarea, required=False)
    role = forms.ChoiceField(choices=[("read", "Viewer")], required=False)


def test_a_field_ties_label_hint_and_error_together():
    form = ReasonForm({"reason": ""})
    html = render("{% field form.reason %}", form=form)
    assert '<label for="id_reason">Reason</label>' in html
    assert 'class="input"' in html
    assert 'aria-invalid="true"' in html
    assert 'aria-describedby="id_reason-hint id_reason-error"' in html
    assert 'id="id_reason-hint"' in html
    assert "This field is required." in html
    assert 'class="textarea mono"' in render("{% field form.text mono=True %}", form=form)
    assert 'class="select"' in render("{% field form.role %}", form=form)


def test_a_live_root_carries_id_revision_and_where_to_ask(settings):
    settings.ROOT_URLCONF = "tests.live.shell_site"
    assert components.live_root("rollout", 418, "waves", 912, "sec") == (
        'id="rollout-418-waves" class="rollout-waves sec" data-revision="912"'
        ' data-live-url="/live/rollout/418/waves/"'
    )

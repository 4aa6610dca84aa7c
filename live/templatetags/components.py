"""Template tags of the visual language: every component that is drawn from data, once."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from django import template
from django.forms import BoundField, CheckboxInput, Select, Textarea, Widget
from django.templatetags.static import static
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from live.tones import TONES, mark_of, tone_of

register = template.Library()

NOTHING: Final = "\u2013"


@lru_cache(maxsize=512)
def _use(name: str, css: str) -> SafeString:
    return format_html(
        '<svg class="{}" aria-hidden="true"><use href="{}#{}"/></svg>',
        css,
        static("icons.svg"),
        name,
    )


@register.simple_tag
def icon(name: str, css: str = "") -> SafeString:
    """Draw a symbol of the sprite: `i-*` at 16 px for verbs and nouns, `g-*` at 12 px for states."""
    base = "glyph" if name.startswith("g-") else "icon"
    return _use(name, f"{base} {css}".strip())


@register.simple_tag
@lru_cache(maxsize=512)
def state(
    kind: str, noun: str = "", *, badge: bool = False, word: str = "", bare: bool = False
) -> SafeString:
    """Draw a state as a shape and a word; `badge` for headers, `bare` for the shape alone."""
    look = tone_of(str(kind), noun)
    css = f"state is-{look.tone}" + (" is-badge" if badge else "")
    text = format_html('<span class="sr-only">{}</span>' if bare else " {}", word or look.word)
    return format_html('<span class="{}">{}{}</span>', css, _use(look.glyph, "glyph"), text)


@register.simple_tag
def mark(kind: str, name: str = "", href: str = "", *, selected: bool = False) -> SafeString:
    """Draw one node as a square; with a name and an address it is a link that says its state."""
    key = mark_of(str(kind))
    css = f"mark is-{key}" + (" is-selected" if selected else "")
    if not href:
        return format_html('<span class="{}"></span>', css)
    word = TONES[f"mark.{key}"].word
    return format_html(
        '<a class="{0}" href="{1}" aria-label="{2}, {3}" title="{2}: {3}"></a>',
        css,
        href,
        name,
        word,
    )


@register.simple_tag
def mark_run(kind: str, count: int) -> SafeString:
    """Draw a number of equal marks that lead nowhere: a wave of a plan, a picture."""
    return mark_safe(str(mark(kind)) * count)  # noqa: S308 -- made of nothing but mark()


@register.simple_tag
def mark_word(kind: str) -> str:
    """Return the word of a mark, for legends and tables."""
    return TONES[f"mark.{mark_of(str(kind))}"].word


def _pairs(segments: Mapping[str, int] | Iterable[Sequence[Any]]) -> list[tuple[str, float, str]]:
    items: Iterable[Sequence[Any]] = segments.items() if isinstance(segments, Mapping) else segments
    pairs = []
    for item in items:
        kind, value = str(item[0]), float(item[1])
        look = TONES.get(f"mark.{kind}")
        fill, word = (look.tone, look.word) if look else (kind, kind)
        pairs.append((fill, value, f"{item[1]} {item[2] if len(item) > 2 else word}"))
    return pairs


@register.simple_tag
def bar(
    segments: Mapping[str, int] | Iterable[Sequence[Any]],
    *,
    total: float = 0,
    label: str = "",
    css: str = "",
) -> SafeString:
    """Draw counts as one bar of SVG rectangles in percent.

    A segment is (kind, count) or (kind, count, word); kind is a mark's kind or a fill (`ok`,
    `checking`, `starting`, `active`, `warn`, `bad`, `off`, `track`, `none`). Without a total the
    counts fill the bar. The label defaults to the counts in words.
    """
    pairs = _pairs(segments)
    whole = total or sum(value for _, value, _ in pairs)
    rects, offset = [], 0.0
    for fill, value, _ in pairs:
        width = 100 * value / whole if whole else 0.0
        if width and fill != "none":
            rects.append((fill, f"{offset:.2f}", f"{width:.2f}"))
        offset += width
    words = label or ", ".join(text for _, value, text in pairs if value)
    return format_html(
        '<svg class="{}" role="img" aria-label="{}">{}</svg>',
        f"bar {css}".strip(),
        words or "nothing yet",
        format_html_join("", '<rect class="f-{}" x="{}%" width="{}%" height="100%"/>', rects),
    )


@register.simple_tag
def spark(
    values: Iterable[float | None], *, limit: float = 0, label: str = "", css: str = ""
) -> SafeString:
    """Draw numbers as upright bars, those above the limit in the bad tone, the limit as a line.

    None is a gap: a window that did not arrive.
    """
    numbers = list(values)
    top = max([limit * 1.25, *(n for n in numbers if n is not None)], default=0) or 1
    step = 100 / max(len(numbers), 1)
    rects = [
        (
            "bad" if limit and number > limit else "ok",
            f"{index * step:.2f}",
            f"{100 - max(100 * number / top, 4):.2f}",
            f"{step * 0.7:.2f}",
            f"{max(100 * number / top, 4):.2f}",
        )
        for index, number in enumerate(numbers)
        if number is not None
    ]
    row = '<rect class="f-{}" x="{}%" y="{}%" width="{}%" height="{}%"/>'
    line = (
        format_html(
            '<line class="s-limit s-dash" x1="0" x2="100%" y1="{0}%" y2="{0}%"/>',
            f"{100 - 100 * limit / top:.2f}",
        )
        if limit
        else ""
    )
    return format_html(
        '<svg class="{}" role="img" aria-label="{}">{}{}</svg>',
        f"spark {css}".strip(),
        label or f"{len(numbers)} values",
        format_html_join("", row, rects),
        line,
    )


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _full(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _time(moment: datetime | None, text: str, role: str, empty: str) -> SafeString:
    if moment is None:
        return format_html('<span class="quiet">{}</span>', empty)
    return format_html(
        '<time datetime="{}" title="{}"{}>{}</time>', _iso(moment), _full(moment), role, text
    )


@register.simple_tag
def time_ago(moment: datetime | None, empty: str = NOTHING) -> SafeString:
    """Draw a moment in UTC; the browser rewrites the text as an age and keeps it current."""
    text = _full(moment) if moment else ""
    return _time(moment, text, mark_safe(" data-ago"), empty)


@register.simple_tag
def time_until(moment: datetime | None, empty: str = NOTHING) -> SafeString:
    """Draw a deadline in UTC; the browser rewrites the text as a count-down."""
    text = _full(moment) if moment else ""
    return _time(moment, text, mark_safe(" data-until"), empty)


@register.simple_tag
def time_of_day(moment: datetime | None, empty: str = NOTHING) -> SafeString:
    """Draw hours, minutes and seconds in UTC, the day in the title; never rewritten."""
    text = moment.astimezone(UTC).strftime("%H:%M:%S") if moment else ""
    return _time(moment, text, "", empty)


@register.simple_tag
def duration(length: timedelta | None, empty: str = NOTHING) -> str:
    """Say a length of time in its two largest units: `1 min 40 s`, `3 d 4 h`, `240 ms`."""
    if length is None:
        return empty
    milliseconds = round(length / timedelta(milliseconds=1))
    if abs(milliseconds) < 1000:
        return f"{milliseconds} ms" if milliseconds else "0 s"
    left, words = abs(milliseconds) // 1000, []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            words.append(f"{count} {unit}")
        elif words:
            break
    return ("-" if milliseconds < 0 else "") + " ".join(words[:2])


@register.simple_tag
def label(key: str, value: str = "", *, operator: bool = False) -> SafeString:
    """Draw a node label or a job label; `operator` marks one that a person set on a node."""
    css = "label is-operator" if operator else "label"
    if not value:
        return format_html('<span class="{}">{}</span>', css, key)
    return format_html('<span class="{}"><b>{}=</b>{}</span>', css, key, value)


@register.simple_tag
def copy(text: str, *, what: str = "value") -> SafeString:
    """Draw a value with a button that copies it."""
    return format_html(
        '<span class="copy"><span class="id">{0}</span><button type="button" data-copy="{0}"'
        ' aria-label="Copy {1}">{2}</button></span>',
        text,
        what,
        _use("i-copy", "icon"),
    )


@register.simple_tag
def live_root(noun: str, pk: object, part: str, revision: object, css: str = "") -> SafeString:
    """Return the attributes of a live fragment's root: id, class, revision and refresh address."""
    return format_html(
        'id="{0}-{1}-{2}" class="{3}" data-revision="{4}" data-live-url="{5}"',
        noun,
        pk,
        part,
        f"{noun}-{part} {css}".strip(),
        revision,
        reverse("live:fragment", args=[noun, pk, part]),
    )


def _control(widget: Widget) -> str:
    if isinstance(widget, CheckboxInput):
        return ""
    if isinstance(widget, Select):
        return "select"
    return "textarea" if isinstance(widget, Textarea) else "input"


@register.simple_tag
def field(bound: BoundField, *, mono: bool = False) -> SafeString:
    """Draw a form field: label, control, hint and errors, tied together for screen readers."""
    errors = " ".join(str(error) for error in bound.errors)
    described = [f"{bound.auto_id}-hint"] if bound.help_text else []
    described += [f"{bound.auto_id}-error"] if errors else []
    kind = _control(bound.field.widget)
    attrs: dict[str, str | bool] = {"class": f"{kind} mono".strip() if mono else kind}
    if described:
        attrs["aria-describedby"] = " ".join(described)
    hint = bound.help_text and format_html(
        '<p class="hint" id="{}-hint">{}</p>', bound.auto_id, bound.help_text
    )
    error = errors and format_html(
        '<p class="error" id="{}-error">{}{}</p>', bound.auto_id, _use("g-bad", "glyph"), errors
    )
    return format_html(
        '<div class="field"><label for="{}">{}</label>{}{}{}</div>',
        bound.id_for_label,
        bound.label,
        bound.as_widget(attrs=attrs),
        hint,
        error,
    )


@register.filter
def thousands(number: int | None) -> str:
    """Write a count with separators: 1,284."""
    return NOTHING if number is None else f"{number:,}"


@register.filter
def plural(number: int, words: str) -> str:
    """Write a count with its noun: `3|plural:"node,nodes"` is `3 nodes`."""
    one, many = words.split(",")
    return f"{number:,} {one if number == 1 else many}"


@register.filter
def wave_span(size: int, largest: int) -> int:
    """Return a wave's width on the ruler, 4 to 12, for `data-span` (design README)."""
    return max(4, round(12 * size / largest)) if largest else 4

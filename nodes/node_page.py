"""What the page of one node shows: its head, its use, its labels, its day and its events."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.utils import timezone

from access.problems import Refused
from nodes.models import Node, NodeEvent
from nodes.pages import percent_of
from nodes.queries import active_counts, events_of, last_heard, node_of
from nodes.records import badge_of

DAY = timedelta(hours=24)
EVENTS_SHOWN = 12
_DAY_EVENTS = 400
_LIST_MOST = 200
_NOTES_SHOWN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadView:
    """Name, badge and the facts that say how the node is."""

    pk: UUID
    revision: int
    node: Node
    badge: str
    active: int
    last_heard: datetime | None
    # Names the buttons that apply: the page asks for them again when it changes.
    controls_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """How much of something is used, in percent."""

    title: str
    percent: float | None
    detail: str

    @property
    def segments(self) -> tuple[tuple[str, float], ...]:
        """Return the bar: the used part dark, or red when little is left."""
        used = self.percent or 0.0
        return (("bad" if used > 90 else "active", used),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Something that an agent watches on its machine."""

    title: str
    is_bad: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VitalsView:
    """What the last heartbeats said of the machine."""

    pk: UUID
    revision: int
    meters: tuple[Meter, ...]
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRow:
    """One label: what the agent says, what a person set, and which of them counts."""

    key: str
    reported: str | None
    operator: str | None

    @property
    def is_overruled(self) -> bool:
        """Say whether a person set something else than the agent says."""
        both = self.reported is not None and self.operator is not None
        return both and self.reported != self.operator


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelsView:
    """The agent's labels and those that people set, side by side."""

    pk: UUID
    revision: int
    rows: tuple[LabelRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """One thing that happened."""

    seq: int
    at: datetime
    kind: str
    message: str
    tone: str
    glyph: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsView:
    """What happened last."""

    pk: UUID
    revision: int
    rows: tuple[EventRow, ...]
    has_more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DayView:
    """The states of the last day as one bar: (fill, seconds, words)."""

    pk: UUID
    revision: int
    segments: tuple[tuple[str, int, str], ...]
    connected_percent: float | None
    since: datetime
    # When it was not simply ready, the latest last: (since when, words).
    notes: tuple[tuple[datetime, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ability:
    """One list of what a node can run, or one thing said of it."""

    title: str
    words: tuple[str, ...]
    count: int


def head_view(pk: UUID | str) -> HeadView:
    """Return the head of a node's page."""
    node = _node(pk)
    states = (node.enrolment_state, node.scheduling_state, node.connection_state == "deleted")
    return HeadView(
        pk=node.pk,
        revision=node.revision,
        node=node,
        badge=badge_of(node),
        active=active_counts([node.pk]).get(node.pk, 0),
        last_heard=last_heard(node),
        controls_key="-".join(str(state).lower() for state in states),
    )


def vitals_view(pk: UUID | str) -> VitalsView:
    """Return what the machine uses and suffers."""
    node = _node(pk)
    usage = node.resource_usage
    return VitalsView(
        pk=node.pk,
        revision=node.revision,
        meters=(
            Meter(title="CPU", percent=percent_of(usage, "cpu_percent"), detail=""),
            _meter(usage, "Memory", "memory"),
            _meter(usage, "Disk", "disk"),
        ),
        conditions=_conditions(node.conditions),
    )


def labels_view(pk: UUID | str) -> LabelsView:
    """Return both maps of a node's labels."""
    node = _node(pk)
    keys = sorted({*node.reported_labels, *node.operator_labels})
    rows = (
        LabelRow(
            key=key, reported=node.reported_labels.get(key), operator=node.operator_labels.get(key)
        )
        for key in keys
    )
    return LabelsView(pk=node.pk, revision=node.revision, rows=tuple(rows))


def events_view(pk: UUID | str) -> EventsView:
    """Return the newest events of a node."""
    node = _node(pk)
    found = list(events_of(node).order_by("-pk")[: EVENTS_SHOWN + 1])
    return EventsView(
        pk=node.pk,
        revision=node.revision,
        rows=event_rows(found[:EVENTS_SHOWN]),
        has_more=len(found) > EVENTS_SHOWN,
    )


def event_rows(events: Iterable[NodeEvent]) -> tuple[EventRow, ...]:
    """Return events with the look of what they mean."""
    return tuple(
        EventRow(
            seq=event.pk,
            at=event.at,
            kind=event.kind,
            message=event.message,
            tone=_LOOKS.get(event.kind, ("off", "g-dot"))[0],
            glyph=_LOOKS.get(event.kind, ("off", "g-dot"))[1],
        )
        for event in events
    )


_LOOKS = {
    "node.connected": ("ok", "g-ok"),
    "node.accepted": ("ok", "g-done"),
    "node.undrained": ("ok", "g-ok"),
    "node.disconnected": ("off", "g-gone"),
    "node.lost": ("bad", "g-lost"),
    "node.rejected": ("bad", "g-bad"),
    "node.revoked": ("bad", "g-bad"),
    "node.deleted": ("off", "g-stop"),
    "node.draining": ("warn", "g-drain"),
    "node.cordoned": ("off", "g-cordon"),
    "node.enrolled": ("active", "g-ask"),
}


# --- The last day --------------------------------------------------------------------------------

_CONNECTION = {
    "node.connected": "connected",
    "node.disconnected": "disconnected",
    "node.lost": "lost",
}
_SCHEDULING = {
    "node.draining": "draining",
    "node.cordoned": "cordoned",
    "node.undrained": "ready",
}
_FILLS = {"disconnected": "off", "lost": "bad", "draining": "warn", "cordoned": "warn"}


def day_view(pk: UUID | str, now: datetime | None = None) -> DayView:
    """Return the states of a node's last 24 hours, read from its events."""
    node, now = _node(pk), now or timezone.now()
    kinds = [*_CONNECTION, *_SCHEDULING]
    newest = events_of(node).filter(kind__in=kinds).order_by("-pk")[:_DAY_EVENTS]
    segments = day_segments(list(newest)[::-1], now)
    whole = sum(seconds for fill, seconds, _ in segments if fill != "none")
    away = sum(seconds for _, seconds, word in segments if word in ("disconnected", "lost"))
    return DayView(
        pk=node.pk,
        revision=node.revision,
        segments=tuple(
            (fill, seconds, f"{word} for {_span(seconds)}") for fill, seconds, word in segments
        ),
        connected_percent=round(100 * (whole - away) / whole, 1) if whole else None,
        since=now - DAY,
        notes=day_notes(segments, now)[-_NOTES_SHOWN:],
    )


def day_notes(
    segments: Sequence[tuple[str, int, str]], now: datetime
) -> tuple[tuple[datetime, str], ...]:
    """Return when the node was not ready, so that the bar's colours are also words."""
    notes, at = [], now - timedelta(seconds=sum(seconds for _, seconds, _ in segments))
    for fill, seconds, word in segments:
        if fill not in ("ok", "none"):
            notes.append((at, f"{word} for {_span(seconds)}"))
        at += timedelta(seconds=seconds)
    return tuple(notes)


def day_segments(events: Sequence[NodeEvent], now: datetime) -> list[tuple[str, int, str]]:
    """Return (fill, seconds, word) of each span of the last day, from events oldest first."""
    begin = now - DAY
    connection, scheduling = "", "ready"
    spans: list[tuple[str, int, str]] = []
    at = begin
    for event in [*events, None]:
        until = now if event is None else min(max(event.at, begin), now)
        word = connection if connection != "connected" else scheduling
        seconds = round((until - at) / timedelta(seconds=1))
        if seconds > 0:
            fill = _FILLS.get(word, "ok") if word else "none"
            spans.append((fill, seconds, word or "unknown"))
        if event is not None:
            connection = _CONNECTION.get(event.kind, connection)
            scheduling = _SCHEDULING.get(event.kind, scheduling)
        at = max(at, until)
    return spans


def _span(seconds: int) -> str:
    hours, minutes = seconds // 3600, seconds % 3600 // 60
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds} s"


# --- What an agent said, which may be anything ---------------------------------------------------


def _meter(usage: object, title: str, stem: str) -> Meter:
    percent = percent_of(usage, f"{stem}_percent")
    used, whole = _bytes(usage, f"{stem}_used_bytes"), _bytes(usage, f"{stem}_capacity_bytes")
    detail = f"{used} of {whole}" if used and whole else ""
    return Meter(title=title, percent=percent, detail=detail)


def _bytes(usage: object, name: str) -> str:
    value = usage.get(name) if isinstance(usage, dict) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return ""
    size = float(value)
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def _conditions(said: object) -> tuple[Condition, ...]:
    found = [one for one in said if isinstance(one, dict)] if isinstance(said, list) else []
    return tuple(
        Condition(
            title=_in_words(str(one.get("type", ""))[:64]),
            is_bad=one.get("status") is True,
            reason=str(one.get("reason", ""))[:256],
        )
        for one in found[:_LIST_MOST]
    )


def _in_words(name: str) -> str:
    """Write a condition's name as people say it: `MemoryPressure` is "Memory pressure"."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])(?=[a-z])", lambda m: " " + m[1].lower(), name)


def abilities_of(node: Node) -> tuple[Ability, ...]:
    """Return what a node can run, in the order in which its agent says it."""
    return tuple(
        _ability(name, said) for name, said in list(node.capabilities.items())[:_LIST_MOST]
    )


def _ability(name: str, said: object) -> Ability:
    if isinstance(said, dict):
        words = [
            f"{key}: {_plain(value)}" for key, value in said.items() if value not in ("", None)
        ]
        return Ability(title=name, words=tuple(words[:_LIST_MOST]), count=0)
    if isinstance(said, list):
        words = [_plain(one) for one in said]
        return Ability(title=name, words=tuple(words[:_LIST_MOST]), count=len(words))
    return Ability(title=name, words=(_plain(said),), count=0)


def facts_of(node: Node) -> tuple[tuple[str, str], ...]:
    """Return the facts of a machine as words."""
    facts = list(node.facts.items())[:_LIST_MOST]
    return tuple((name.replace("_", " "), _plain(value)) for name, value in facts)


def _plain(value: Any) -> str:  # noqa: ANN401 - whatever an agent said
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (str, int, float)):
        return str(value)[:256]
    if isinstance(value, list) and all(isinstance(one, (str, int, float)) for one in value):
        return ", ".join(map(str, value))[:256]
    return json.dumps(value, sort_keys=True)[:256]


def _node(pk: UUID | str) -> Node:
    node = node_of(pk)
    if node is None:
        raise Refused("not_found", "There is no such node.")
    return node

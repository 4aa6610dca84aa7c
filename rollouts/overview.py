"""The boxes of the dashboard: what needs a person, what is rolling, the fleet, what happened.

What a dashboard is of is its scope (`rollouts.scope`).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import OuterRef, Subquery, Sum
from django.utils import timezone

from access.queries import Person, may, may_everywhere, namespaces_for
from jobs.models import Event, Job
from jobs.states import JobState
from nodes.states import ConnectionState, EnrolmentState, badge
from rollouts.board_tabs import EventRow, event_row
from rollouts.halts import halts_in_words
from rollouts.models import JobTally, Rollout
from rollouts.queries import READ
from rollouts.rows import RolloutRow, rollout_rows
from rollouts.scope import EVERY, NodeCount, Scope, load_scope, within
from rollouts.states import DesiredState, ObservedState, PauseReason, RolloutState

MOST_ITEMS = 20
NEWEST = 15
# A halt that was rolled back needs no hand, but somebody should know of it for a day.
FRESH = timedelta(hours=24)
UNWELL = (JobState.FAILED, JobState.ROLLOUT_FAILED, JobState.DEGRADED)


def scope_of(user: Person, chosen: str) -> str:
    """Return which dashboard a person sees: that of the chosen namespace, or of all of theirs."""
    if chosen:
        return chosen
    return EVERY if may_everywhere(user, READ) else ",".join(namespaces_for(user, READ))


def may_read_overview(user: Person, pk: str) -> bool:
    """Say whether a person may look at a dashboard."""
    if pk == EVERY:
        return may_everywhere(user, READ)
    return all(may(user, READ, name) for name in pk.split(","))


def has_socket(pk: str) -> bool:
    """Say whether pushes reach this dashboard; that of several namespaces asks by itself."""
    return bool(pk) and "," not in pk


def _is_trusted(row: NodeCount) -> bool:
    return row.enrolment == EnrolmentState.ACCEPTED


def _is_lost(row: NodeCount) -> bool:
    return _is_trusted(row) and row.connection == ConnectionState.LOST


def _asks_to_join(row: NodeCount) -> bool:
    return row.enrolment == EnrolmentState.PENDING


# --- Attention -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing that needs a person: what, why, since when, and where to look."""

    kind: str
    noun: str
    subject: str
    text: str
    detail: str
    verb: str
    at: datetime | None
    rollout_pk: UUID | None = None
    job_pk: UUID | None = None
    # What the way on to it asks for: a tab, or a filter.
    query: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionView:
    """What needs a person, the most pressing first."""

    pk: str
    revision: int
    items: tuple[Item, ...]


def attention_view(row: Scope | str) -> AttentionView:
    """Return what needs a person; a fixed number of queries."""
    scope, now = load_scope(row), timezone.now()
    pk, revision = scope.pk, scope.revision
    halted = list(_halted(pk, now))
    seen = {item.job_pk for item in halted}
    items = [
        *halted,
        *_held(pk),
        *(item for item in _unwell(pk) if item.job_pk not in seen),
        *_odd_nodes(scope),
    ]
    return AttentionView(pk=pk, revision=revision, items=tuple(items[:MOST_ITEMS]))


def attention_count(user: Person, namespaces: Sequence[str]) -> int:
    """Count the rollouts that wait for a person: the number beside the navigation's link."""
    readable = set(namespaces) & set(namespaces_for(user, READ))
    return Rollout.objects.filter(namespace__in=readable, state=RolloutState.PAUSED).count()


def _halted(pk: str, now: datetime) -> Iterator[Item]:
    found = within(
        Rollout.objects.select_related("job", "version").filter(
            state=RolloutState.HALTED, completed_at__gt=now - FRESH
        ),
        pk,
    )
    rows = list(found.order_by("-completed_at")[:MOST_ITEMS])
    words = halts_in_words(rows)
    for row in rows:
        cause, rest = words[row.pk]
        yield Item(
            kind="halted",
            noun="rollout",
            subject=row.job.name,
            text=cause,
            detail=rest,
            verb="See the failures",
            at=row.completed_at,
            rollout_pk=row.pk,
            job_pk=row.job_id,
            query="?tab=failures#tabs",
        )


def _held(pk: str) -> Iterator[Item]:
    found = within(
        Rollout.objects.select_related("job", "version").filter(state=RolloutState.PAUSED), pk
    )
    for row in found.order_by("-started_at")[:MOST_ITEMS]:
        is_gate = row.pause_reason == PauseReason.AWAITING_PROMOTION
        done = f"{row.updated_nodes:,} of {row.total_nodes:,} nodes have it."
        yield Item(
            kind="awaiting_promotion" if is_gate else "paused",
            noun="rollout",
            subject=row.job.name,
            text=f"v{row.version.number} "
            + ("waits for promotion" if is_gate else "is paused by a person"),
            detail=done,
            verb="Review",
            at=row.started_at,
            rollout_pk=row.pk,
            job_pk=row.job_id,
        )


def _unwell(pk: str) -> Iterator[Item]:
    latest = Rollout.objects.filter(job=OuterRef("pk")).order_by("-started_at").values("pk")[:1]
    found = within(
        Job.objects.filter(state__in=UNWELL).annotate(newest_rollout=Subquery(latest)), pk
    )
    for row in found.order_by("-updated_at")[:MOST_ITEMS]:
        yield Item(
            kind=row.state,
            noun="job",
            subject=row.name,
            text=f"is {row.state}"
            if row.state == JobState.DEGRADED
            else row.state.replace("_", " "),
            detail=row.state_message,
            verb="Look at it",
            at=row.updated_at,
            rollout_pk=row.newest_rollout,
            job_pk=row.pk,
        )


def _odd_nodes(scope: Scope) -> Iterator[Item]:
    if lost := scope.count_nodes(_is_lost):
        yield _of_nodes("lost", lost, "lost", "They have been silent for too long.")
    if asking := scope.count_nodes(_asks_to_join):
        yield _of_nodes("pending", asking, "asking to join", "Compare their keys first.")


def _of_nodes(kind: str, count: int, what: str, detail: str) -> Item:
    return Item(
        kind=kind,
        noun="node",
        subject=f"{count:,} node" if count == 1 else f"{count:,} nodes",
        text=what,
        detail=detail,
        verb="Show them",
        at=None,
        query=f"?badge={kind}",
    )


# --- Rolling now, fleet, activity ----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RollingView:
    """The rollouts that have not ended."""

    pk: str
    revision: int
    rows: tuple[RolloutRow, ...]
    is_cut: bool


def rolling_view(row: Scope | str) -> RollingView:
    """Return the active rollouts, the newest first."""
    scope = load_scope(row)
    pk, revision = scope.pk, scope.revision
    found = within(
        Rollout.objects.select_related("job", "version").filter(
            state__in=[RolloutState.ACTIVE, RolloutState.PAUSED]
        ),
        pk,
    )
    rollouts = list(found.order_by("-started_at", "-id")[: MOST_ITEMS + 1])
    return RollingView(
        pk=pk,
        revision=revision,
        rows=rollout_rows(rollouts[:MOST_ITEMS]),
        is_cut=len(rollouts) > MOST_ITEMS,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BadgeCount:
    """How many nodes show a badge, and how the bar draws them."""

    badge: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """The nodes by badge, and what runs on them."""

    pk: str
    revision: int
    total: int
    badges: tuple[BadgeCount, ...]
    segments: tuple[tuple[str, int, str], ...]
    wanted: int
    running: int
    degraded: int
    jobs: int


_BADGE_FILLS = {
    "ready": "ok",
    "cordoned": "off",
    "draining": "warn",
    "disconnected": "track",
    "lost": "bad",
    "pending": "active",
    "rejected": "off",
    "revoked": "off",
}


def fleet_view(row: Scope | str) -> FleetView:
    """Return the fleet by badge: the same few queries for any number of nodes."""
    scope = load_scope(row)
    pk, revision = scope.pk, scope.revision
    counts: Counter[str] = Counter()
    for connection, scheduling, enrolment, count in scope.nodes:
        shown = badge(connection=connection, scheduling=scheduling, enrolment=enrolment)
        counts[shown] += count
    work = _work(pk)
    return FleetView(
        pk=pk,
        revision=revision,
        total=counts.total(),
        badges=tuple(BadgeCount(badge=b, count=counts[b]) for b in _BADGE_FILLS if counts[b]),
        segments=tuple((fill, counts[b], b) for b, fill in _BADGE_FILLS.items() if counts[b]),
        wanted=work["wanted"],
        running=work["running"],
        degraded=work["degraded"],
        jobs=within(Job.objects.exclude(state=JobState.DELETED), pk).count(),
    )


def _work(pk: str) -> Mapping[str, int]:
    """Return how many executions should run, and how many of them do (ADR 0017)."""
    wanted = JobTally.objects.filter(desired_state=DesiredState.RUNNING)
    rows = within(wanted, pk, "job__namespace").values_list("observed_state")
    found: Counter[str] = Counter(dict(rows.annotate(total=Sum("count"))))
    ended = found[ObservedState.COMPLETED] + found[ObservedState.FAILED]
    degraded = found[ObservedState.DEGRADED]
    return {
        "wanted": found.total() - ended,
        "running": found[ObservedState.RUNNING] + degraded,
        "degraded": degraded,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityView:
    """What happened last to rollouts and jobs; single executions are left to their own pages."""

    pk: str
    revision: int
    rows: tuple[EventRow, ...]


def activity_view(row: Scope | str) -> ActivityView:
    """Return the newest events that are not of one execution."""
    scope = load_scope(row)
    pk, revision = scope.pk, scope.revision
    found = within(Event.objects.select_related("job").filter(execution_id=None), pk)
    found = found.exclude(kind__in=["wave.settled"])
    rows = tuple(event_row(event) for event in found.order_by("-id")[:NEWEST])
    return ActivityView(pk=pk, revision=revision, rows=rows)


# --- First steps ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsView:
    """How far a new installation has come."""

    pk: str
    revision: int
    nodes: int
    pending: int
    jobs: int

    @property
    def is_first_run(self) -> bool:
        """Say whether there is nothing yet that a dashboard could show."""
        return not self.jobs

    @property
    def done(self) -> int:
        """How many of the three steps are done; the first is that this page is shown."""
        return 1 + bool(self.nodes) + bool(self.jobs)


def steps_view(row: Scope | str) -> StepsView:
    """Return how far a new installation has come."""
    scope = load_scope(row)
    return StepsView(
        pk=scope.pk,
        revision=scope.revision,
        nodes=scope.count_nodes(_is_trusted),
        pending=scope.count_nodes(_asks_to_join),
        jobs=len(within(Job.objects.all(), scope.pk).values_list("pk")[:1]),
    )

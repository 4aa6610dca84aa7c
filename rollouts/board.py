"""The boxes of a rollout's page that draw it: head, waves and nodes."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from uuid import UUID

from django.db.models import BigIntegerField, OuterRef, Subquery, Value
from django.db.models.functions import Coalesce
from django.utils.dateparse import parse_datetime

from rollouts.marks import Wave, bunch_waves, waves_of
from rollouts.models import Rollout, RolloutTally
from rollouts.states import (
    FINISHED_ROLLOUT,
    PauseReason,
    RolloutState,
    RolloutType,
    Strategy,
)
from rollouts.tally import MarkCount, count_marks_of, list_marks
from rollouts.terms import Terms, terms_of

# Above this many nodes each wave is one bar of counts instead of one mark a node: a push of that
# many marks would be most of what the page is.
MOST_MARKS = 400
# With more bars than this, waves beside each other share one.
MOST_BARS = 24
# Above this many waves those that are over, and those far ahead, are drawn as one.
MOST_WAVES = 6


@dataclass(frozen=True, kw_only=True)
class Board:
    """A rollout with what every box needs of it. The revision grows with all that they show."""

    rollout: Rollout
    terms: Terms
    revision: int

    @property
    def is_over(self) -> bool:
        """Say whether the rollout has ended."""
        return self.rollout.state in FINISHED_ROLLOUT

    @cached_property
    def counts(self) -> tuple[MarkCount, ...]:
        """Its nodes by wave and look, read once for all boxes that draw them."""
        return count_marks_of([self.rollout]).get(self.rollout.pk, ())


def load_board(row: Board | str | UUID) -> Board:
    """Return the board of a rollout; one query, or none. Raises Rollout.DoesNotExist.

    Boxes are drawn from an id or from the board that a page or a push has loaded for all of them.

    Each event of the job and each change of an execution counts in the revision, so a box that
    shows more never has a lower one.
    """
    if isinstance(row, Board):
        return row
    moves = RolloutTally.objects.filter(rollout=OuterRef("pk"), state="").values("moves")
    rollout = (
        Rollout.objects.select_related("job", "version")
        .annotate(
            moves=Coalesce(
                Subquery(moves, output_field=BigIntegerField()),
                Value(0),
                output_field=BigIntegerField(),
            )
        )
        .get(pk=row)
    )
    return Board(
        rollout=rollout,
        terms=terms_of(rollout.version, rollout.strategy),
        revision=rollout.revision + rollout.job.event_seq + rollout.moves,
    )


# --- Head ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadView:
    """What the rollout is, and in one word how it stands."""

    pk: UUID
    revision: int
    job_pk: UUID
    job_name: str
    from_version: int
    to_version: int
    kind: str
    word: str
    pace: str
    total_nodes: int
    started_by: str
    started_at: datetime
    completed_at: datetime | None
    reason: str
    # Changes whenever other buttons apply, so that the page asks for them again.
    controls_key: str


def head_view(row: Board | str | UUID) -> HeadView:
    """Return the head of a rollout's page."""
    board = load_board(row)
    rollout = board.rollout
    kind, word = badge_of(rollout)
    return HeadView(
        pk=rollout.pk,
        revision=board.revision,
        job_pk=rollout.job_id,
        job_name=rollout.job.name,
        from_version=rollout.rollback_to_version,
        to_version=rollout.version.number,
        kind=kind,
        word=word,
        pace=pace_of(board),
        total_nodes=rollout.total_nodes,
        started_by=rollout.started_by,
        started_at=rollout.started_at,
        completed_at=rollout.completed_at,
        reason=rollout.reason,
        controls_key="-".join(
            [rollout.state, rollout.pause_reason or "none", str(rollout.canary_promoted).lower()]
        ),
    )


def badge_of(rollout: Rollout) -> tuple[str, str]:
    """Return the kind of a rollout's badge and the words in it, "" for the kind's own."""
    state = rollout.state
    wave = ""
    if rollout.total_waves > 1:
        wave = f", wave {max(rollout.current_wave, 1)} of {rollout.total_waves}"
    if state == RolloutState.ACTIVE:
        is_back = rollout.rollout_type == RolloutType.ROLLBACK
        return ("rolling_back", f"Rolling back{wave}") if is_back else (state, f"Rolling{wave}")
    if state == RolloutState.PAUSED:
        if rollout.pause_reason == PauseReason.AWAITING_PROMOTION:
            return PauseReason.AWAITING_PROMOTION, ""
        return state, f"Paused{wave}"
    return state, ""


def pace_of(board: Board) -> str:
    """Say in a few words how the rollout reaches its nodes."""
    policy = board.terms.policy
    each = f"{policy.max_parallel}% a wave"
    if policy.strategy is Strategy.IMMEDIATE:
        return "All nodes at once"
    if policy.strategy is Strategy.ROLLING:
        return f"Rolling, {each}"
    size = (
        f"{policy.canary_percent}%" if policy.canary_percent else f"of {policy.canary_count or 1}"
    )
    return f"Canary {size}, then {each}"


# --- Waves and nodes -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The sentence beside the waves: what it waits on, since when, until when."""

    lead: str = ""
    strong: str = ""
    tail: str = ""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WavesView:
    """The strip of waves; spans are relative to `largest`."""

    pk: UUID
    revision: int
    waves: tuple[Wave, ...]
    largest: int
    waiting: Waiting
    is_over: bool
    status: str


def waves_view(row: Board | str | UUID) -> WavesView:
    """Return the strip of waves; the number of queries is the same for any number of nodes."""
    board = load_board(row)
    rollout = board.rollout
    waves = waves_of(rollout, board.terms, board.counts)
    strip = fold_waves(tuple(wave for wave in waves if wave.is_wave))
    current = next((wave for wave in strip if wave.is_current), None)
    return WavesView(
        pk=rollout.pk,
        revision=board.revision,
        waves=strip,
        largest=max((wave.size for wave in strip), default=0),
        waiting=_waiting(board),
        is_over=board.is_over,
        status=f"{current.title}: {current.done} of {current.size} done, {current.note}"
        if current
        else "",
    )


def fold_waves(waves: tuple[Wave, ...]) -> tuple[Wave, ...]:
    """Draw the waves that are over, and those far ahead, as one when there are too many."""
    if len(waves) <= MOST_WAVES:
        return waves
    at = next((i for i, wave in enumerate(waves) if wave.is_current), 0)
    behind, ahead = waves[:at], waves[at + 1 :]
    return (
        *((Wave.together(behind),) if len(behind) > 1 else behind),
        *waves[at : at + 1],
        *ahead[:1],
        *((Wave.together(ahead[1:]),) if len(ahead) > 2 else ahead[1:]),
    )


def _waiting(board: Board) -> Waiting:
    rollout, held = board.rollout, board.rollout.waiting_on
    if board.is_over or not held:
        return Waiting()
    facts = held.get("facts", {})
    since, until = moment_of(held.get("since")), moment_of(held.get("until"))
    match held.get("rule"):
        case "wave.settled":
            more = rollout.current_wave < rollout.total_waves and rollout.current_wave
            who = f"Wave {rollout.current_wave + 1} waits" if more else "The end waits"
            count = facts.get("needed", 0) - facts.get("settled", 0)
            return Waiting(
                lead=f"{who} on", strong=nodes_in_words(count), tail="to settle", until=until
            )
        case "canary.gate":
            return Waiting(lead="Waiting on", strong="a promotion", since=since)
        case "paused.manual":
            return Waiting(lead="Waiting on", strong="a person to resume it", since=since)
    return Waiting(lead="Waiting:", strong=str(held.get("reason", "")), since=since, until=until)


@dataclass(frozen=True, slots=True, kw_only=True)
class LegendItem:
    """How many nodes have a mark."""

    kind: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodesView:
    """One mark for each node in its place, or a bar for each wave of a large rollout."""

    pk: UUID
    revision: int
    groups: tuple[Wave, ...]
    legend: tuple[LegendItem, ...]
    is_folded: bool


LEGEND = ("stable", "validating", "starting", "failed", "lost", "deferred", "waiting")
RARE = ("degraded", "restored", "old")


def nodes_view(row: Board | str | UUID) -> NodesView:
    """Return the picture of all nodes: two queries for any number of them."""
    board = load_board(row)
    rollout = board.rollout
    is_folded = rollout.total_nodes > MOST_MARKS
    marks = () if is_folded else list_marks(rollout)
    groups = waves_of(rollout, board.terms, board.counts, marks)
    counts = Wave.together(groups).counts if groups else {}
    legend = [LegendItem(kind=kind, count=counts.get(kind, 0)) for kind in LEGEND]
    legend += [LegendItem(kind=kind, count=counts[kind]) for kind in RARE if kind in counts]
    return NodesView(
        pk=rollout.pk,
        revision=board.revision,
        groups=bunch_waves(groups, MOST_BARS) if is_folded else groups,
        legend=tuple(legend),
        is_folded=is_folded,
    )


def nodes_in_words(count: int) -> str:
    """Write a number of nodes."""
    return f"{count:,} node" if count == 1 else f"{count:,} nodes"


def moment_of(text: object) -> datetime | None:
    """Read a moment of `Rollout.waiting_on`; None when there is none."""
    return parse_datetime(text) if isinstance(text, str) else None

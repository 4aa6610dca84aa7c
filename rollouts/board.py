"""The boxes of a rollout's page above its tabs: head, alert, waves, nodes, budget and why."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import BigIntegerField, OuterRef, Subquery, Sum, Value
from django.db.models.functions import Coalesce
from django.utils.dateparse import parse_datetime

from jobs.models import Event, JobVersion
from rollouts.marks import Wave, count_marks, list_marks, waves_of
from rollouts.models import Evaluation, Execution, Rollout
from rollouts.planner import Snapshot, why_no_rollback
from rollouts.states import (
    FINISHED_ROLLOUT,
    PauseReason,
    RolloutState,
    RolloutType,
    Strategy,
)
from rollouts.terms import Terms, terms_of

# Above this many nodes each wave is one bar of counts instead of one mark a node.
MOST_MARKS = 2000
# Above this many waves those that are over, and those far ahead, are drawn as one.
MOST_WAVES = 6
MOST_CELLS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A rollout with what every box needs of it. The revision grows with all that they show."""

    rollout: Rollout
    terms: Terms
    revision: int

    @property
    def is_over(self) -> bool:
        """Say whether the rollout has ended."""
        return self.rollout.state in FINISHED_ROLLOUT


def load_board(pk: str | UUID) -> Board:
    """Return the board of a rollout; one query. Raises Rollout.DoesNotExist.

    Each event of the job and each change of an execution counts in the revision, so a box that
    shows more never has a lower one.
    """
    executions = (
        Execution.objects.filter(rollout=OuterRef("pk"))
        .order_by()
        .values("rollout")
        .annotate(total=Sum("revision"))
        .values("total")
    )
    rollout = (
        Rollout.objects.select_related("job", "version")
        .annotate(
            moves=Coalesce(
                Subquery(executions, output_field=BigIntegerField()),
                Value(0),
                output_field=BigIntegerField(),
            )
        )
        .get(pk=pk)
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


def head_view(pk: str | UUID) -> HeadView:
    """Return the head of a rollout's page."""
    board = load_board(pk)
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


# --- Alert ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertView:
    """The one thing a reader must know now; without `strong` there is nothing to say."""

    pk: UUID
    revision: int
    tone: str = ""
    glyph: str = ""
    strong: str = ""
    text: str = ""
    since: datetime | None = None
    href: str = ""
    next_pk: UUID | None = None
    verb: str = ""


def alert_view(pk: str | UUID) -> AlertView:
    """Return the alert of a rollout's page."""
    board = load_board(pk)
    found = _ended_alert(board) if board.is_over else _running_alert(board)
    return AlertView(pk=board.rollout.pk, revision=board.revision, **found)


def _running_alert(board: Board) -> dict[str, Any]:
    rollout = board.rollout
    if rollout.pause_reason == PauseReason.AWAITING_PROMOTION:
        stable = rollout.waiting_on.get("facts", {}).get("stable", rollout.canary_size)
        left = rollout.total_nodes - rollout.updated_nodes - rollout.failed_nodes
        return {
            "tone": "warn",
            "glyph": "g-gate",
            "strong": f"The canary is stable on {stable} of {rollout.canary_size} nodes.",
            "text": "Nothing moves until somebody promotes it; "
            f"wave 2 of {_nodes(min(rollout.wave_size, left))} then opens. Waiting since",
            "since": _moment(rollout.waiting_on.get("since")),
        }
    if rollout.state == RolloutState.PAUSED:
        return {
            "tone": "active",
            "glyph": "g-paused",
            "strong": "Paused by a person.",
            "text": "No further wave opens until somebody resumes it; what is out goes on.",
        }
    if rollout.failed_nodes:
        allowed, _ = failures_allowed(board)
        return {
            "tone": "warn",
            "glyph": "g-warn",
            "strong": f"{_nodes(rollout.failed_nodes)} failed.",
            "text": f"The rollout goes on; it halts at failure {allowed + 1}.",
            "href": "?tab=failures",
            "verb": "Show the failures",
        }
    return {}


def _ended_alert(board: Board) -> dict[str, Any]:
    rollout = board.rollout
    last = (
        Event.objects.filter(rollout_id=rollout.pk, kind=f"rollout.{rollout.state}")
        .order_by("-id")
        .first()
    )
    message = (last.message if last else "").strip()
    following = _following(rollout)
    link = {"next_pk": following.pk, "verb": _verb(following)} if following else {}
    if rollout.state == RolloutState.COMPLETED:
        return {
            "tone": "ok",
            "glyph": "g-done",
            "strong": f"Complete: {rollout.updated_nodes} of {_nodes(rollout.total_nodes)} "
            f"run v{rollout.version.number}.",
            "text": f"{_nodes(rollout.failed_nodes)} failed, within the limits."
            if rollout.failed_nodes
            else "",
        }
    if rollout.state == RolloutState.HALTED:
        text = f"It returns to the spec of v{rollout.rollback_to_version}."
        if following is None or following.rollout_type != RolloutType.ROLLBACK:
            text = f"It stays so: {_no_rollback(board) or 'a newer version took over'}."
        where = f" in wave {rollout.current_wave}" if rollout.current_wave else ""
        strong = f"Halted{where}: {message}."
        return {"tone": "bad", "glyph": "g-bad", "strong": strong, "text": text, **link}
    kept = rollout.updated_nodes
    return {
        "tone": "active",
        "glyph": "g-stop" if rollout.state == RolloutState.CANCELLED else "g-back",
        "strong": f"{message[:1].upper()}{message[1:]}." if message else f"{rollout.state}.",
        "text": f"{kept} of {_nodes(rollout.total_nodes)} had v{rollout.version.number} by then.",
        **link,
    }


def _following(rollout: Rollout) -> Rollout | None:
    """Return the next rollout of the same job."""
    later = Rollout.objects.select_related("version").filter(
        job_id=rollout.job_id, version__number__gt=rollout.version.number
    )
    return later.order_by("version__number").first()


def _verb(rollout: Rollout) -> str:
    word = "rollback" if rollout.rollout_type == RolloutType.ROLLBACK else "rollout"
    return f"Open the {word} to v{rollout.version.number}"


def _no_rollback(board: Board) -> str:
    """Say why a halt would not roll back, or "" when it would."""
    rollout = board.rollout
    stable = JobVersion.objects.filter(job_id=rollout.job_id, number=rollout.rollback_to_version)
    is_identical = rollout.version.run_hash in stable.values_list("run_hash", flat=True)
    return why_no_rollback(
        Snapshot(
            rollout_type=RolloutType(rollout.rollout_type),
            policy=board.terms.policy,
            one_shot=board.terms.one_shot,
            rollback_to_version=rollout.rollback_to_version,
            rollback_is_identical=is_identical,
        )
    )


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


def waves_view(pk: str | UUID) -> WavesView:
    """Return the strip of waves; the number of queries is the same for any number of nodes."""
    board = load_board(pk)
    rollout = board.rollout
    waves = waves_of(rollout, board.terms, count_marks(rollout))
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
    since, until = _moment(held.get("since")), _moment(held.get("until"))
    match held.get("rule"):
        case "wave.settled":
            more = rollout.current_wave < rollout.total_waves and rollout.current_wave
            who = f"Wave {rollout.current_wave + 1} waits" if more else "The end waits"
            count = facts.get("needed", 0) - facts.get("settled", 0)
            return Waiting(lead=f"{who} on", strong=_nodes(count), tail="to settle", until=until)
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


def nodes_view(pk: str | UUID) -> NodesView:
    """Return the picture of all nodes: two queries for any number of them."""
    board = load_board(pk)
    rollout = board.rollout
    is_folded = rollout.total_nodes > MOST_MARKS
    marks = () if is_folded else list_marks(rollout)
    groups = waves_of(rollout, board.terms, count_marks(rollout), marks)
    counts = Wave.together(groups).counts if groups else {}
    legend = [LegendItem(kind=kind, count=counts.get(kind, 0)) for kind in LEGEND]
    legend += [LegendItem(kind=kind, count=counts[kind]) for kind in RARE if kind in counts]
    return NodesView(
        pk=rollout.pk,
        revision=board.revision,
        groups=groups,
        legend=tuple(legend),
        is_folded=is_folded,
    )


# --- Failure budget ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetView:
    """How many failures are left until it halts, and which limit stops it first."""

    pk: UUID
    revision: int
    failed: int
    allowed: int
    left: int
    first: str
    max_nodes: int
    percent: float
    max_percent: float
    total: int
    # x and width in percent, and the fill, of each cell; none when there are too many.
    cells: tuple[tuple[str, str, str], ...]
    note: str

    @property
    def segments(self) -> tuple[tuple[str, int], ...]:
        """The bar that stands in for too many cells."""
        used = min(self.failed, self.allowed)
        return (("bad", used), ("track", self.allowed - used))


def failures_allowed(board: Board) -> tuple[int, str]:
    """Return how many failures do not halt, and the limit that the next one would cross first."""
    policy, rollout = board.terms.policy, board.rollout
    is_canary = policy.strategy is Strategy.CANARY and not rollout.canary_promoted
    if is_canary and rollout.current_wave <= 1:
        return 0, "canary"
    by_percent = int(policy.max_failed_nodes_percent * rollout.total_nodes / 100)
    if by_percent < policy.max_failed_nodes:
        return by_percent, "percent"
    return policy.max_failed_nodes, "count"


def budget_view(pk: str | UUID) -> BudgetView:
    """Return the failure budget."""
    board = load_board(pk)
    rollout, policy = board.rollout, board.terms.policy
    allowed, first = failures_allowed(board)
    left = max(0, allowed - rollout.failed_nodes)
    return BudgetView(
        pk=rollout.pk,
        revision=board.revision,
        failed=rollout.failed_nodes,
        allowed=allowed,
        left=left,
        first=first,
        max_nodes=policy.max_failed_nodes,
        percent=100 * rollout.failed_nodes / rollout.total_nodes if rollout.total_nodes else 0.0,
        max_percent=float(policy.max_failed_nodes_percent),
        total=rollout.total_nodes,
        cells=_cells(rollout.failed_nodes, allowed),
        note=_halt_note(board),
    )


def _cells(failed: int, allowed: int) -> tuple[tuple[str, str, str], ...]:
    if not 0 < allowed <= MOST_CELLS:
        return ()
    step = 100 / (allowed + 1)
    fills = ["bad" if index < failed else "track" for index in range(allowed)]
    return tuple(
        (f"{index * step:.2f}", f"{step * 0.88:.2f}", fill) for index, fill in enumerate(fills)
    )


def _halt_note(board: Board) -> str:
    if board.is_over:
        return ""
    why_not = _no_rollback(board)
    if why_not:
        return f"At a halt nodes keep what they have: {why_not}."
    return f"At a halt every node returns to v{board.rollout.rollback_to_version} at once."


# --- Why -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class WhyView:
    """The rule that holds or ended the rollout, with the numbers that it saw."""

    pk: UUID
    revision: int
    title: str
    text: str = ""
    rule: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    has_next_check: bool = False


def why_view(pk: str | UUID) -> WhyView:
    """Return why the rollout stands where it stands: what it waits on, or its last decision."""
    board = load_board(pk)
    rollout, held = board.rollout, board.rollout.waiting_on
    if held and not board.is_over:
        more = rollout.current_wave < rollout.total_waves
        title = f"Why wave {rollout.current_wave + 1} has not opened" if more else "Why it waits"
        return WhyView(
            pk=rollout.pk,
            revision=board.revision,
            title=title,
            text=f"{held.get('reason', '')}.",
            rule=str(held.get("rule", "")),
            facts=facts_in_words(held.get("facts", {})),
            since=_moment(held.get("since")),
            until=_moment(held.get("until")),
            has_next_check=True,
        )
    decided = Evaluation.objects.filter(rollout=rollout.pk).order_by("-id")
    if rollout.state == RolloutState.HALTED:
        decided = decided.filter(kind="halt")
    last = decided.first()
    title = "Why it halted" if rollout.state == RolloutState.HALTED else "Last decision"
    if last is None:
        return WhyView(
            pk=rollout.pk, revision=board.revision, title=title, text="Nothing is decided yet."
        )
    return WhyView(
        pk=rollout.pk,
        revision=board.revision,
        title=title,
        text=f"{last.message}.",
        rule=last.rule,
        facts=facts_in_words(last.facts),
        since=last.created_at,
    )


def facts_in_words(facts: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the numbers of a decision with readable names."""
    return tuple(
        (
            name.replace("_", " ").capitalize(),
            f"{value:g}" if isinstance(value, float) else str(value),
        )
        for name, value in facts.items()
    )


def _nodes(count: int) -> str:
    return f"{count:,} node" if count == 1 else f"{count:,} nodes"


def _moment(text: object) -> datetime | None:
    return parse_datetime(text) if isinstance(text, str) else None

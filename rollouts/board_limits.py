"""The boxes of a rollout's page that say why: alert, failure budget, and the rule that holds."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from jobs.models import Event, JobVersion
from rollouts.board import Board, load_board, moment_of, nodes_in_words
from rollouts.models import Evaluation, Rollout
from rollouts.planner import Snapshot, why_no_rollback
from rollouts.states import PauseReason, RolloutState, RolloutType, Strategy

# With more cells than this the budget is one bar.
MOST_CELLS = 24


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


def alert_view(row: Board | str | UUID) -> AlertView:
    """Return the alert of a rollout's page."""
    board = load_board(row)
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
            f"wave 2 of {nodes_in_words(min(rollout.wave_size, left))} then opens. Waiting since",
            "since": moment_of(rollout.waiting_on.get("since")),
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
            "strong": f"{nodes_in_words(rollout.failed_nodes)} failed.",
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
            "strong": f"Complete: {rollout.updated_nodes} of {nodes_in_words(rollout.total_nodes)} "
            f"run v{rollout.version.number}.",
            "text": f"{nodes_in_words(rollout.failed_nodes)} failed, within the limits."
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
        "text": f"{kept} of {nodes_in_words(rollout.total_nodes)} had v{rollout.version.number} by then.",
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


def budget_view(row: Board | str | UUID) -> BudgetView:
    """Return the failure budget."""
    board = load_board(row)
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


def why_view(row: Board | str | UUID) -> WhyView:
    """Return why the rollout stands where it stands: what it waits on, or its last decision."""
    board = load_board(row)
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
            since=moment_of(held.get("since")),
            until=moment_of(held.get("until")),
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

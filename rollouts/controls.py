"""The buttons of a rollout: which may be pressed now, and what the others wait for."""

from dataclasses import dataclass
from uuid import UUID

from access.queries import Person, may
from rollouts.models import Rollout
from rollouts.queries import WRITE
from rollouts.states import FINISHED_ROLLOUT, PauseReason, RolloutState, Strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One button; with a `why_not` it is shown and may not be pressed."""

    verb: str
    name: str
    glyph: str
    css: str = ""
    why_not: str = ""
    # Destructive: asked again, with the consequence in words.
    question: str = ""
    consequence: str = ""
    keep: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls:
    """All buttons of a rollout, and the one that is being asked about again."""

    pk: UUID
    buttons: tuple[Control, ...]
    asked: Control | None = None


def controls_of(user: Person, rollout: Rollout, asked: str = "") -> Controls:
    """Return the buttons of a rollout for a person."""
    buttons = [*_pace(rollout), _promote(rollout), _cancel(rollout), _roll_back(rollout)]
    if not may(user, WRITE, rollout.namespace):
        lacking = f"Needs the permission {WRITE} in namespace {rollout.namespace}."
        buttons = [_without(button, lacking) for button in buttons]
    found = [b for b in buttons if b.name == asked and b.question and not b.why_not]
    return Controls(pk=rollout.pk, buttons=tuple(buttons), asked=found[0] if found else None)


def _without(button: Control, why_not: str) -> Control:
    return Control(verb=button.verb, name=button.name, glyph=button.glyph, why_not=why_not)


def _is_over(rollout: Rollout) -> bool:
    return rollout.state in FINISHED_ROLLOUT


def _ended(rollout: Rollout) -> str:
    return f"The rollout has ended: {rollout.state}." if _is_over(rollout) else ""


def _pace(rollout: Rollout) -> list[Control]:
    if rollout.state == RolloutState.PAUSED:
        why_not = ""
        if rollout.pause_reason == PauseReason.AWAITING_PROMOTION:
            why_not = "The canary waits for its promotion; resuming never promotes."
        return [Control(verb="Resume", name="resume", glyph="i-play", why_not=why_not)]
    return [Control(verb="Pause", name="pause", glyph="i-pause", why_not=_ended(rollout))]


def _promote(rollout: Rollout) -> Control:
    is_waiting = rollout.pause_reason == PauseReason.AWAITING_PROMOTION
    why_not = ""
    if _is_over(rollout):
        why_not = _ended(rollout)
    elif rollout.strategy != Strategy.CANARY:
        why_not = "Nothing waits for promotion: this is no canary rollout."
    elif rollout.canary_promoted:
        why_not = "Nothing waits for promotion: the canary was promoted."
    elif not is_waiting and rollout.waiting_on.get("rule") != "paused.manual":
        why_not = "The canary is not stable yet."
    return Control(
        verb="Promote",
        name="promote",
        glyph="i-promote",
        css="is-primary" if is_waiting else "",
        why_not=why_not,
    )


def _cancel(rollout: Rollout) -> Control:
    left = rollout.total_nodes - rollout.updated_nodes - rollout.failed_nodes
    return Control(
        verb="Cancel…",
        name="cancel",
        glyph="i-stop",
        css="is-danger",
        why_not=_ended(rollout),
        question=f"Cancel the rollout of v{rollout.version.number}?",
        consequence=f"{_nodes(rollout.updated_nodes)} will keep v{rollout.version.number}; "
        f"{_nodes(left)} will get nothing more from this rollout. Nothing is rolled back.",
        keep="Keep it going",
    )


def _roll_back(rollout: Rollout) -> Control:
    job, why_not = rollout.job, ""
    if job.version != rollout.version.number:
        why_not = f"Version {job.version} has taken its place; act on its rollout."
    elif rollout.rollback_to_version == 0:
        why_not = "There is no earlier version whose rollout completed."
    changed = rollout.updated_nodes + rollout.failed_nodes
    return Control(
        verb="Roll back…",
        name="rollback",
        glyph="i-undo",
        css="is-danger",
        why_not=why_not,
        question=f"Roll {job.name} back?",
        consequence=f"It gets a new version v{job.version + 1} from the last one that completed, "
        f"and that goes to all {_nodes(rollout.total_nodes)} by the job's own strategy; "
        f"{_nodes(changed)} had v{rollout.version.number}.",
        keep="Keep this version",
    )


def _nodes(count: int) -> str:
    return f"{count:,} node" if count == 1 else f"{count:,} nodes"

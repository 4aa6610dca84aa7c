"""Carries out what the planner decided, one function for each action. Decides nothing."""

from dataclasses import dataclass
from datetime import datetime
from functools import singledispatch

from jobs.models import Job, JobVersion
from jobs.services import add_version, record_state
from jobs.spec import JobSpec
from jobs.states import JobState
from rollouts import placement, targets
from rollouts.lifecycle import change_rollout, end_rollout, record_decision, say, set_state
from rollouts.models import Evaluation, Rollout
from rollouts.planner import (
    Action,
    AwaitPromotion,
    Defer,
    Finish,
    Halt,
    PlaceWave,
    Promote,
    Resurrect,
    RollBack,
    WaitUntil,
    passed_over,
)
from rollouts.states import PauseReason, RolloutState
from rollouts.terms import Terms

SCHEDULER = "scheduler"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What an action works on: the locked job and rollout, their terms, the moment, the cause.

    `is_first`: the rollout of the first version was started just now, so nothing ever ran.
    """

    job: Job
    rollout: Rollout
    terms: Terms
    trigger: str
    now: datetime
    is_first: bool = False


@singledispatch
def carry_out(action: Action, scene: Scene) -> bool:
    """Do one action; say whether planning again could bring something new."""
    raise TypeError(f"no way to carry out {type(action).__name__}")


@carry_out.register
def _resurrect(action: Resurrect, scene: Scene) -> bool:
    record_decision(
        scene.job,
        scene.rollout,
        action,
        trigger="exec-failure",
        now=scene.now,
        wave=scene.rollout.current_wave,
        kind="resurrect",
        generation=scene.rollout.revision,
    )
    placement.resurrect(scene.job, scene.rollout, scene.terms, now=scene.now)
    change_rollout(scene.rollout)
    return False


@carry_out.register
def _place(action: PlaceWave, scene: Scene) -> bool:
    job, rollout, now = scene.job, scene.rollout, scene.now
    generation = Evaluation.objects.filter(
        rollout=rollout, kind="wave.open", wave=action.number
    ).count()
    evaluation = record_decision(
        job,
        rollout,
        action,
        trigger=scene.trigger,
        now=now,
        wave=action.number,
        kind="wave.open",
        generation=generation,
    )
    size = targets.release(rollout, number=action.number, size=action.size)
    if not action.canary:
        _defer(scene, number=action.number)
    if rollout.pause_reason == PauseReason.AWAITING_PROMOTION:
        _leave_gate(scene)  # every canary left, and new ones are taken
    rollout.current_wave = action.number
    rollout.total_waves = targets.total_waves(rollout, scene.terms)
    rollout.waiting_on = {}
    change_rollout(rollout, "current_wave", "total_waves", "waiting_on")
    say(
        job,
        rollout,
        "wave.opened",
        action.reason,
        now,
        wave=action.number,
        size=size,
        canary=action.canary,
        total_waves=rollout.total_waves,
    )
    placement.place_wave(
        job,
        rollout,
        scene.terms,
        number=action.number,
        evaluation_id=evaluation.pk,
        now=now,
        is_first=scene.is_first,
    )
    return True


def _leave_gate(scene: Scene) -> None:
    rollout = scene.rollout
    set_state(rollout, RolloutState.ACTIVE)
    rollout.pause_reason = ""
    change_rollout(rollout, "state", "pause_reason")
    message = "no canary is left to promote"
    say(scene.job, rollout, "rollout.resumed", message, scene.now, by="scheduler")


def _defer(scene: Scene, *, number: int | None) -> None:
    names = targets.defer_passed_over(scene.rollout, number=number)
    if names:
        say(
            scene.job,
            scene.rollout,
            "node.deferred",
            passed_over(len(names)),
            scene.now,
            nodes=names[:100],
            count=len(names),
        )


@carry_out.register
def _defer_all(action: Defer, scene: Scene) -> bool:
    record_decision(
        scene.job,
        scene.rollout,
        action,
        trigger=scene.trigger,
        now=scene.now,
        wave=scene.rollout.current_wave,
        kind="defer",
        generation=scene.rollout.revision,
    )
    _defer(scene, number=None)
    change_rollout(scene.rollout)
    return True


@carry_out.register
def _await_promotion(action: AwaitPromotion, scene: Scene) -> bool:
    rollout = scene.rollout
    record_decision(
        scene.job,
        rollout,
        action,
        trigger=scene.trigger,
        now=scene.now,
        wave=1,
        kind="canary.gate",
        generation=rollout.revision,
    )
    set_state(rollout, RolloutState.PAUSED)
    rollout.pause_reason = PauseReason.AWAITING_PROMOTION
    rollout.waiting_on = waiting(action, scene.now)
    change_rollout(rollout, "state", "pause_reason", "waiting_on")
    say(
        scene.job,
        rollout,
        "rollout.paused",
        action.reason,
        scene.now,
        reason=PauseReason.AWAITING_PROMOTION,
    )
    return False


@carry_out.register
def _promote(action: Promote, scene: Scene) -> bool:
    rollout = scene.rollout
    record_decision(
        scene.job,
        rollout,
        action,
        trigger="rollout-promote",
        now=scene.now,
        wave=1,
        kind="promote",
    )
    rollout.canary_promoted = True
    rollout.promote_requested = False
    if rollout.state == RolloutState.PAUSED:
        set_state(rollout, RolloutState.ACTIVE)
        rollout.pause_reason = ""
    change_rollout(rollout, "canary_promoted", "promote_requested", "state", "pause_reason")
    say(scene.job, rollout, "canary.promoted", action.reason, scene.now, rule=action.rule)
    return True


@carry_out.register
def _halt(action: Halt, scene: Scene) -> bool:
    rollout = scene.rollout
    record_decision(
        scene.job,
        rollout,
        action,
        trigger="exec-failure",
        now=scene.now,
        wave=rollout.current_wave,
        kind="halt",
    )
    rollout.halted_by = action.rule
    change_rollout(rollout, "halted_by")
    end_rollout(
        scene.job,
        rollout,
        RolloutState.HALTED,
        action.reason,
        scene.now,
        rule=action.rule,
        **action.facts,
    )
    if not scene.terms.is_all_out:
        _fail_job(action, scene)
    return True


def _fail_job(action: Halt, scene: Scene) -> None:
    record_state(
        scene.job,
        JobState.ROLLOUT_FAILED,
        f"Version {scene.rollout.version.number} halted: {action.reason}",
        now=scene.now,
        details={"reason": action.rule},
    )


@carry_out.register
def _roll_back(action: RollBack, scene: Scene) -> bool:
    job, rollout, now = scene.job, scene.rollout, scene.now
    record_decision(
        job,
        rollout,
        action,
        trigger="rollout-rollback",
        now=now,
        wave=rollout.current_wave,
        kind="rollback",
    )
    say(
        job,
        rollout,
        "rollout.rolled_back",
        action.reason,
        now,
        to_version=action.to_version,
        new_version=job.version + 1,
    )
    stable = JobVersion.objects.get(job=job, number=action.to_version)
    add_version(
        job,
        JobSpec.model_validate(stable.spec),
        cause="rollback",
        source_text=stable.source_text,
        reason=f"version {rollout.version.number} was halted: {rollout.halted_by}",
        created_by=SCHEDULER,
        rolled_back_from=rollout.version.number,
        now=now,
    )
    return True


@carry_out.register
def _finish(action: Finish, scene: Scene) -> bool:
    job, rollout = scene.job, scene.rollout
    record_decision(
        job,
        rollout,
        action,
        trigger=scene.trigger,
        now=scene.now,
        wave=rollout.current_wave,
        kind="finish",
    )
    end_rollout(job, rollout, RolloutState.COMPLETED, action.reason, scene.now, **action.facts)
    # One that ended because every node left proves nothing (docs/semantics.md C01).
    if action.makes_stable:
        job.stable_version = rollout.version.number
        Job.objects.filter(pk=job.pk).update(stable_version=job.stable_version)
    return True


@carry_out.register
def _wait(action: WaitUntil, scene: Scene) -> bool:
    rollout = scene.rollout
    held = waiting(action, scene.now)
    known = {k: v for k, v in rollout.waiting_on.items() if k != "since"}
    if known != {k: v for k, v in held.items() if k != "since"}:
        if rollout.waiting_on.get("rule") == action.rule:
            held["since"] = rollout.waiting_on["since"]
        rollout.waiting_on = held
        change_rollout(rollout, "waiting_on")
    return False


def waiting(action: Action, now: datetime) -> dict[str, object]:
    """Return what a page shows of a wait: rule, reason, numbers, since and until."""
    until = action.when.isoformat() if isinstance(action, WaitUntil) and action.when else None
    return {
        "rule": action.rule,
        "reason": action.reason,
        "facts": action.facts,
        "since": now.isoformat(),
        "until": until,
    }

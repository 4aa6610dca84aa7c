"""What a report, a window or a result does to one execution."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from rollouts.facts import Facts, but
from rollouts.health import (
    HealthPolicy,
    Judgement,
    Streaks,
    Verdict,
    Window,
    advance,
    is_healthy,
    weigh,
    why_unhealthy,
)
from rollouts.reports import RESULT_STATES, ResultSeen, StateSeen, WindowSeen
from rollouts.states import STARTED, TERMINAL, DesiredState, ObservedState, may_observe

# During validation the sixth restart fails the execution (docs/semantics.md 1.9, X02).
RESTARTS_IN_VALIDATION = 5
# Until then after a reconnect an agent may still be sending what it measured while it was away.
BACKLOG = timedelta(seconds=60)

UP = frozenset({ObservedState.VALIDATING, ObservedState.RUNNING, ObservedState.DEGRADED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the version's spec says about judging its executions; the same for all of them."""

    # Only pipelines have windows; other types settle by their result alone (docs/semantics.md X52).
    has_windows: bool = True
    validates: bool = False
    # What runs on and is not validated has shown what it must once it is up.
    is_one_shot: bool = False
    policy: HealthPolicy = field(default_factory=HealthPolicy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An execution after something happened to it; `moved` says whether its state changed."""

    facts: Facts
    moved: bool = False
    message: str = ""


# --- Reports of state and results --------------------------------------------------------------


def apply_state(facts: Facts, rules: Rules, report: StateSeen, now: datetime) -> Change | None:
    """Return what a reported state changes, None when it is stale, illegal or says nothing new.

    docs/semantics.md 1.5, X02, X19, X81, X82; the table of legal steps is rollouts.states.
    """
    if _knows_too_little(facts):
        return None
    to = _meant(facts, rules, report.observed_state)
    if to is None:
        return None
    told = _heard(facts, report)
    if to == facts.observed_state:
        return _repeat(facts, told, rules, now)
    if not _may_move(facts, to):
        return None
    if _restarted_too_often(told, rules):
        return fail(told, now, "too_many_restarts", _too_often(told))
    return _move(told, rules, to, now, message=report.message, error_code=report.error_code)


def apply_result(facts: Facts, rules: Rules, result: ResultSeen, now: datetime) -> Change | None:
    """Return what a result changes beside being stored (docs/semantics.md 4.6, X82), None if nothing.

    A result that wins the race against a stop is kept; an execution that has ended stays as it
    ended.
    """
    if _knows_too_little(facts):
        return None
    to = RESULT_STATES[result.status]
    if to == facts.observed_state or not _may_move(facts, to):
        return None
    code = "execution_timeout" if result.status == "timeout" else ""
    if not code and to is ObservedState.FAILED:
        code = facts.error_code or "exit_code"
    message = result.error[-1024:] if to is ObservedState.FAILED else ""
    told = but(facts, attempt=max(facts.attempt, result.attempt))
    return _move(told, rules, to, now, message=message, error_code=code)


def apply_ack(facts: Facts, desired_seq: int) -> Change | None:
    """Return the execution once its node knows the desired state of this number."""
    if not facts.delivered_seq < desired_seq <= facts.desired_seq:
        return None
    return Change(facts=but(facts, delivered_seq=desired_seq))


def _heard(facts: Facts, report: StateSeen) -> Facts:
    """Return the execution with what a report counts and explains, whatever becomes of its state."""
    if report.details:
        facts = but(facts, details={**facts.details, **report.details})
    if report.attempt > facts.attempt or report.restarts > facts.restarts:
        return but(
            facts,
            attempt=max(facts.attempt, report.attempt),
            restarts=max(facts.restarts, report.restarts),
        )
    return facts


def _knows_too_little(facts: Facts) -> bool:
    """Say whether this is still about an earlier run of an execution that should run again.

    A node reports in order: what comes before its word that it knows of the resurrection is
    about the run that was stopped (docs/semantics.md X06).
    """
    return (
        facts.desired_state == DesiredState.RUNNING and 0 < facts.delivered_seq < facts.desired_seq
    )


def _meant(facts: Facts, rules: Rules, reported: ObservedState) -> ObservedState | None:
    """Say what a reported word means here: the node measures, the control plane decides.

    Passing validation and being degraded are the control plane's words, loss is never a node's.
    """
    if reported not in STARTED:
        return reported if _may_say(facts, reported) else None
    if facts.observed_state == ObservedState.LOST:
        return _revived(facts, reported)
    if reported is ObservedState.STARTING:
        return reported
    if rules.validates and facts.stable_at is None:
        return ObservedState.VALIDATING
    return None if facts.observed_state == ObservedState.DEGRADED else ObservedState.RUNNING


def _may_say(facts: Facts, reported: ObservedState) -> bool:
    if reported is ObservedState.STOPPING:
        return facts.desired_state == DesiredState.STOPPED
    return reported not in (ObservedState.PENDING, ObservedState.LOST)


def _revived(facts: Facts, reported: ObservedState) -> ObservedState:
    """Say what becomes of a lost execution that is alive (docs/semantics.md X19)."""
    if facts.desired_state == DesiredState.STOPPED or facts.stable_at is None:
        return ObservedState.STOPPING
    return reported if reported is ObservedState.STARTING else ObservedState.RUNNING


def _may_move(facts: Facts, to: ObservedState) -> bool:
    old = facts.observed_state
    if not may_observe(old, to):
        return False
    if old == ObservedState.FAILED:
        return False
    if old == ObservedState.STOPPED:
        # Resurrection: the scheduler wants it again, and the node's own stop came in between.
        return facts.desired_state == DesiredState.RUNNING and facts.stable_at is not None
    # What is being stopped does not come up again.
    return facts.desired_state != DesiredState.STOPPED or to not in STARTED


def _repeat(facts: Facts, told: Facts, rules: Rules, now: datetime) -> Change | None:
    if told.restarts == facts.restarts or facts.observed_state not in STARTED:
        return None
    if _restarted_too_often(told, rules):
        return fail(told, now, "too_many_restarts", _too_often(told))
    return Change(facts=told)


def _restarted_too_often(facts: Facts, rules: Rules) -> bool:
    return (
        rules.validates
        and facts.stable_at is None
        and facts.observed_state in STARTED
        and facts.restarts > RESTARTS_IN_VALIDATION
    )


def _too_often(facts: Facts) -> str:
    return f"restarted {facts.restarts} times before it was stable"


# --- Windows -----------------------------------------------------------------------------------


def judge_window(rules: Rules, seen: WindowSeen) -> tuple[bool, str]:
    """Say whether a window is healthy, and if not why (docs/semantics.md 1.8)."""
    window = _window(seen)
    healthy = is_healthy(window, rules.policy)
    return healthy, "" if healthy else why_unhealthy(window, rules.policy)


def apply_window(
    facts: Facts, rules: Rules, seen: WindowSeen, now: datetime, *, late: bool = False
) -> Change | None:
    """Return what a window changes; None when it was seen already.

    Late windows and those of work that has no windows are counted, never judged (X16, X52).
    """
    if seen.number <= facts.window_count:
        return None
    told = but(facts, window_count=seen.number, last_window_at=now)
    if told.details.get("silent_windows"):
        told = but(told, details={**told.details, "silent_windows": 0})
    if late or not rules.has_windows or not _is_judged(facts):
        return Change(facts=told)
    if _after_deadline(facts, seen, now):
        return Change(facts=told)
    healthy, reason = judge_window(rules, seen)
    return weigh_one(told, rules, healthy=healthy, reason=reason, now=now)


def is_late(seen: WindowSeen, connected_since: datetime | None, now: datetime) -> bool:
    """Say whether a window was measured while its node was away (docs/semantics.md X16).

    A node whose clock is behind must not have all its windows called late, so this holds only
    while a backlog may still be coming in.
    """
    return (
        connected_since is not None
        and seen.ended_at < connected_since
        and now < connected_since + BACKLOG
    )


def _window(seen: WindowSeen) -> Window:
    return Window(
        messages_in=seen.messages_in,
        errors=seen.errors,
        process_alive=seen.process_alive,
        restarts=seen.restarts,
        ended_at=seen.ended_at,
    )


def _is_judged(facts: Facts) -> bool:
    # A restart during validation is a part of it: its windows count (docs/semantics.md X02).
    if facts.observed_state in UP:
        return True
    return facts.observed_state == ObservedState.STARTING and facts.validating_at is not None


def _after_deadline(facts: Facts, seen: WindowSeen, now: datetime) -> bool:
    # A window that ends exactly at the deadline still counts (docs/semantics.md X15, C02).
    return facts.deadline_at is not None and min(seen.ended_at, now) > facts.deadline_at


def weigh_one(facts: Facts, rules: Rules, *, healthy: bool, reason: str, now: datetime) -> Change:
    """Return the execution after one more judged interval (docs/semantics.md 1.8)."""
    streaks = advance(
        Streaks(healthy=facts.healthy_streak, unhealthy=facts.unhealthy_streak), healthy=healthy
    )
    told = but(facts, healthy_streak=streaks.healthy, unhealthy_streak=streaks.unhealthy)
    judgement = weigh(streaks, rules.policy, reason)
    if rules.validates and facts.stable_at is None:
        return _validate(told, rules, judgement, now)
    return _watch(told, rules, judgement, now)


def _validate(facts: Facts, rules: Rules, judgement: Judgement, now: datetime) -> Change:
    if judgement.verdict is Verdict.FAILED:
        return fail(facts, now, judgement.code, judgement.reason)
    if (
        judgement.verdict is Verdict.STABLE
        and facts.observed_state == ObservedState.VALIDATING
        and facts.desired_state == DesiredState.RUNNING
    ):
        healthy = rules.policy.success_threshold
        message = f"stable: {healthy} healthy {'window' if healthy == 1 else 'windows in a row'}"
        stable = but(facts, stable_at=now)
        return _move(stable, rules, ObservedState.RUNNING, now, message=message)
    return Change(facts=facts)


def _watch(facts: Facts, rules: Rules, judgement: Judgement, now: datetime) -> Change:
    # A stable execution is only ever degraded by its windows (docs/semantics.md 1.5, X14).
    observed = facts.observed_state
    if judgement.verdict is Verdict.FAILED and observed == ObservedState.RUNNING:
        return _move(facts, rules, ObservedState.DEGRADED, now, message=judgement.reason)
    if judgement.verdict is Verdict.STABLE and observed == ObservedState.DEGRADED:
        return _move(facts, rules, ObservedState.RUNNING, now, message="healthy again")
    return Change(facts=facts)


# --- The one way to change the state -----------------------------------------------------------


def fail(facts: Facts, now: datetime, code: str, reason: str) -> Change:
    """Fail it by the control plane's own word: then its node must be told to stop it."""
    ended = but(
        facts,
        observed_state=ObservedState.FAILED,
        observed_message=reason[:1024],
        error_code=code,
        finished_at=now,
        deadline_at=None,
        deadline_cap_at=None,
    )
    return Change(facts=unwanted(ended, reason), moved=True, message=reason)


def unwanted(facts: Facts, reason: str) -> Facts:
    """Return the execution, wanted no more; its node is told by the raised number."""
    if facts.desired_state == DesiredState.STOPPED:
        return facts
    return but(
        facts,
        desired_state=DesiredState.STOPPED,
        desired_message=reason[:256],
        desired_seq=facts.desired_seq + 1,
    )


def _move(
    facts: Facts,
    rules: Rules,
    to: ObservedState,
    now: datetime,
    *,
    message: str = "",
    error_code: str = "",
) -> Change:
    changes: dict[str, object] = {
        "observed_state": to,
        "observed_message": message,
        "error_code": error_code,
        "finished_at": now if to in TERMINAL else None,
    }
    if to is ObservedState.COMPLETED and facts.stable_at is None:
        changes["stable_at"] = now
    if to in UP and facts.observed_state not in UP:
        changes |= _coming_up(facts, rules, now)
    if to in TERMINAL or changes.get("stable_at", facts.stable_at) is not None:
        changes |= {"deadline_at": None, "deadline_cap_at": None}
    return Change(facts=but(facts, **changes), moved=True, message=message)


def _coming_up(facts: Facts, rules: Rules, now: datetime) -> dict[str, object]:
    # The start clock ends; the clock of what must still be shown begins.
    up: dict[str, object] = {
        "details": {**facts.details, "up_at": now.isoformat(), "silent_windows": 0}
    }
    if facts.stable_at is not None:
        return up
    if not rules.is_one_shot and not rules.validates:
        return {**up, "stable_at": now}
    if facts.validating_at is not None:
        return up
    deadline = rules.policy.deadline
    return {
        **up,
        "validating_at": now,
        "deadline_at": now + deadline if deadline else None,
        "deadline_cap_at": now + 2 * deadline if deadline else None,
    }

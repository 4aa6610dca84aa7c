"""What a clock that runs out, or silence, does to one execution."""

from datetime import datetime, timedelta

from rollouts.facts import Facts, but
from rollouts.observation import UP, Change, Rules, fail, weigh_one
from rollouts.states import TERMINAL, ObservedState

# Of a run of missing windows the first two are forgiven (docs/semantics.md C07).
FORGIVEN_WINDOWS = 2


def apply_deadline(
    facts: Facts, now: datetime, *, connected: bool, gaps: timedelta = timedelta(0)
) -> Change | None:
    """Fail an execution whose clock ran out (docs/semantics.md 1.8, C02, X18), None while it runs.

    `gaps` is the time since the clock began in which the control plane heard nobody; it is added
    to the clock and to its cap. While its node is away only the cap counts.
    """
    if facts.deadline_at is None or facts.observed_state in TERMINAL:
        return None
    cap = facts.deadline_cap_at
    capped = cap is not None and now >= cap + gaps
    due = connected and now >= facts.deadline_at + gaps
    if not (capped or due):
        return None
    if facts.observed_state == ObservedState.STOPPING:
        # It may still be there: what ends is the patience of the one that waits for it.
        return Change(facts=but(facts, deadline_at=None, deadline_cap_at=None))
    if facts.validating_at is None:
        reason = f"still {facts.observed_state} when its time to start was over"
    else:
        reason = "not stable within its deadline"
    told = but(facts, details={**facts.details, "capped": True}) if capped else facts
    return fail(told, now, "health_deadline_exceeded", reason)


def missed_windows(
    facts: Facts, rules: Rules, until: datetime, *, since: datetime, gaps: timedelta = timedelta(0)
) -> int:
    """Count the intervals without a window that are to be judged: all but two (docs/semantics.md C07).

    `since` is the last window, the moment it came up or its node's session opened: the latest of
    them. `until` is when its node was last heard: beyond that its silence may be anybody's.
    """
    if not rules.has_windows or facts.observed_state not in UP:
        return 0
    passed = (until - since - gaps) // rules.policy.interval
    return max(0, passed - FORGIVEN_WINDOWS)


def apply_silence(facts: Facts, rules: Rules, missed: int, now: datetime) -> Change | None:
    """Judge missed windows as unhealthy with reason `no_report`; `missed` is all since `since`."""
    known = int(facts.details.get("silent_windows") or 0)
    if missed <= known:
        return None
    told = but(facts, details={**facts.details, "silent_windows": missed})
    change = Change(facts=told)
    for _ in range(min(missed - known, rules.policy.failure_threshold)):
        change = weigh_one(told, rules, healthy=False, reason="no_report", now=now)
        if change.moved:
            return change
        told = change.facts
    return change

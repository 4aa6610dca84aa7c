"""When an execution is healthy: windows, streaks, clocks and the verdict (docs/semantics.md 1.8)."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from fractions import Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthPolicy:
    """How health is judged: the health_check block, or its defaults (docs/semantics.md 1.6, X14)."""

    interval: timedelta = timedelta(seconds=10)
    success_threshold: int = 2
    failure_threshold: int = 3
    max_error_rate: Fraction = Fraction(1, 10)
    deadline: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What the agent measured over one interval; counts are messages, not bytes."""

    messages_in: int = 0
    errors: int = 0
    process_alive: bool = True
    restarts: int = 0
    ended_at: datetime | None = None
    # Measured while the node was disconnected: stored, never judged (docs/semantics.md X16).
    late: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Streaks:
    """Consecutive healthy and unhealthy windows; one of the two is always zero."""

    healthy: int = 0
    unhealthy: int = 0


# More restarts than this while it validates fail an execution (docs/semantics.md 1.9, X02).
MAX_RESTARTS_IN_VALIDATION = 5
# A connected node may owe this many windows before its silence counts (docs/semantics.md C07).
TOLERATED_SILENT_INTERVALS = 2


class Verdict(StrEnum):
    """What the windows so far say of an execution in validation."""

    UNDECIDED = "undecided"
    STABLE = "stable"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict with the reason that a person is shown."""

    verdict: Verdict
    code: str = ""
    reason: str = ""
    streaks: Streaks = Streaks()


def error_rate(window: Window) -> Fraction:
    """Return errors by messages of this window alone; errors without messages count as >= 1."""
    return Fraction(window.errors, max(1, window.messages_in))


def is_healthy(window: Window, policy: HealthPolicy) -> bool:
    """Judge one window: alive, not restarted, error rate at most the limit (docs/semantics.md 1.8).

    A rate equal to the limit is healthy, and so is an idle window.

    >>> is_healthy(Window(messages_in=100, errors=10), HealthPolicy())
    True
    >>> is_healthy(Window(messages_in=9, errors=1), HealthPolicy())
    False
    """
    limit = policy.max_error_rate
    return (
        window.process_alive
        and window.restarts == 0
        # error_rate(window) <= limit, multiplied out.
        and window.errors * limit.denominator <= limit.numerator * max(1, window.messages_in)
    )


def why_unhealthy(window: Window, policy: HealthPolicy) -> str:
    """Say in a few words what is wrong with an unhealthy window."""
    if not window.process_alive:
        return "process not alive"
    if window.restarts:
        return f"{window.restarts} restarts"
    percent = float(error_rate(window)) * 100
    limit = float(policy.max_error_rate) * 100
    return (
        f"error rate {percent:.1f}% above {limit:.1f}% "
        f"({window.errors} of {window.messages_in} messages)"
    )


def advance(streaks: Streaks, *, healthy: bool) -> Streaks:
    """Return the streaks after one more window; the two reset each other (docs/semantics.md 1.8)."""
    if healthy:
        return Streaks(healthy=streaks.healthy + 1)
    return Streaks(unhealthy=streaks.unhealthy + 1)


def weigh(streaks: Streaks, policy: HealthPolicy, reason: str = "", restarts: int = 0) -> Judgement:
    """Return what the streaks say: the first to reach its threshold decides (docs/semantics.md 1.8).

    `restarts` are those since validation began: the sixth fails, whatever the windows (X02).
    """
    if restarts > MAX_RESTARTS_IN_VALIDATION:
        return Judgement(
            verdict=Verdict.FAILED,
            code="too_many_restarts",
            reason=f"{restarts} restarts before it was stable",
            streaks=streaks,
        )
    if streaks.healthy >= policy.success_threshold:
        return Judgement(verdict=Verdict.STABLE, streaks=streaks)
    if streaks.unhealthy >= policy.failure_threshold:
        return Judgement(
            verdict=Verdict.FAILED,
            code="health_windows_unhealthy",
            reason=f"{streaks.unhealthy} unhealthy windows in a row, last: {reason}",
            streaks=streaks,
        )
    return Judgement(verdict=Verdict.UNDECIDED, streaks=streaks)


def judge(
    policy: HealthPolicy, windows: Iterable[Window], started_at: datetime, now: datetime
) -> Judgement:
    """Judge all windows of an execution in validation, then its deadline.

    `started_at` is when it entered validating, moved later by the time its node was away.
    A window that ends exactly at the deadline counts before the deadline is judged (X15, C02).
    Worked, with thresholds 2 and 3: HH is stable at window 2, UHH at 3, UUU failed at 3,
    HUHUHU and UUHUUH are undecided until the deadline fails them.
    """
    deadline_at = started_at + policy.deadline if policy.deadline else None
    judgement = Judgement(verdict=Verdict.UNDECIDED)
    restarts = 0
    for window in windows:
        if window.late:
            continue
        if deadline_at and window.ended_at and window.ended_at > deadline_at:
            break
        healthy = is_healthy(window, policy)
        reason = "" if healthy else why_unhealthy(window, policy)
        restarts += window.restarts
        judgement = weigh(advance(judgement.streaks, healthy=healthy), policy, reason, restarts)
        if judgement.verdict is not Verdict.UNDECIDED:
            return judgement
    if deadline_at and now >= deadline_at:
        return expire(judgement.streaks)
    return judgement


def expire(streaks: Streaks, *, capped: bool = False) -> Judgement:
    """Return the verdict of a clock that ran out; `capped` when twice the deadline passed (X18)."""
    reason = "not stable within its deadline"
    if capped:
        reason = "not stable within twice its deadline, its node having been away"
    return Judgement(
        verdict=Verdict.FAILED, code="health_deadline_exceeded", reason=reason, streaks=streaks
    )


def is_degraded(streaks: Streaks, policy: HealthPolicy, *, was_degraded: bool) -> bool:
    """Say whether a stable execution is degraded after its last window (docs/semantics.md 1.5, X14).

    It takes failure_threshold unhealthy windows in a row to become so, and success_threshold
    healthy ones to recover; in between it stays what it was.
    """
    if was_degraded:
        return streaks.healthy < policy.success_threshold
    return streaks.unhealthy >= policy.failure_threshold


def owed_windows(
    heard_at: datetime,
    now: datetime,
    policy: HealthPolicy,
    gaps: timedelta = timedelta(0),
) -> int:
    """Return how many unhealthy `no_report` windows the silence of a connected node makes.

    Each interval without a window counts, from the third on (docs/semantics.md C07). `heard_at` is when
    the last window ended or validation or the connection began, whichever is latest; `gaps` is
    the time in between in which the control plane itself was away.

    >>> from datetime import UTC
    >>> start = datetime(2026, 1, 1, tzinfo=UTC)
    >>> [owed_windows(start, start + timedelta(seconds=s), HealthPolicy()) for s in (29, 30, 40)]
    [0, 1, 2]
    """
    silent_intervals = (now - heard_at - gaps) // policy.interval
    return max(0, silent_intervals - TOLERATED_SILENT_INTERVALS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """One deadline: when it runs out, at the latest when, and what was left when it was held.

    A clock is held while the node is away, but never beyond twice its length (docs/semantics.md 1.8, C02).
    """

    runs_out_at: datetime | None
    cap_at: datetime
    left: timedelta = timedelta(0)


def start_clock(deadline: timedelta, now: datetime) -> Clock:
    """Start a clock: at release for the start, at the first `validating` for validation."""
    return Clock(runs_out_at=now + deadline, cap_at=now + 2 * deadline)


def hold_clock(clock: Clock, now: datetime) -> Clock:
    """Stop the clock while its node is away; holding a held clock changes nothing."""
    if clock.runs_out_at is None:
        return clock
    return replace(clock, runs_out_at=None, left=max(timedelta(0), clock.runs_out_at - now))


def let_clock_run(clock: Clock, now: datetime) -> Clock:
    """Let a held clock go on with what was left, up to its cap."""
    if clock.runs_out_at is not None:
        return clock
    return replace(clock, runs_out_at=min(now + clock.left, clock.cap_at), left=timedelta(0))


def next_alarm(clock: Clock) -> datetime:
    """Return when to look at the clock: when it runs out, or at its cap while it is held."""
    return clock.runs_out_at or clock.cap_at

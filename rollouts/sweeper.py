"""What must go on although no message comes: looking at the fleet, and every decision that is due."""

import logging
from collections.abc import Callable

from django.db import InterfaceError, OperationalError, connection

from nodes.services import mark_silent_nodes
from rollouts.scheduler import sweep_due
from rollouts.silence import cordon_drained, judge_silence
from rollouts.sweeps import absorb_nodes

logger = logging.getLogger(__name__)

# Any number: it names the lock that says who looks at the fleet.
LOCK = 74_686_511
# What makes jobs due: once for all, by one process at a time.
STEPS: tuple[Callable[[], int], ...] = (
    absorb_nodes,
    judge_silence,
    mark_silent_nodes,
    cordon_drained,
)


def decide() -> bool:
    """Decide what is due, and say whether anything was.

    Decisions are shared with every other process that sweeps (ADR 0015). Nothing here needs
    Valkey or Celery (law 1).
    """
    return _take(sweep_due) > 0


def look() -> None:
    """Look at the fleet unless another process is doing so; a step that fails keeps no other back."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
        ((is_ours,),) = cursor.fetchall()
        if not is_ours:
            return
        try:
            for step in STEPS:
                _take(step)
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [LOCK])


def _take(step: Callable[[], int]) -> int:
    try:
        return step()
    except (InterfaceError, OperationalError):
        raise
    except Exception:
        logger.exception("the sweep step %s failed", step.__name__)
        return 0

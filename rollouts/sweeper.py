"""What must go on although no message comes: every decision that is due, by one process at a time."""

import logging
from collections.abc import Callable

from django.db import InterfaceError, OperationalError, connection

from nodes.services import mark_silent_nodes
from rollouts.services import sweep_due
from rollouts.silence import cordon_drained, judge_silence
from rollouts.sweeps import absorb_nodes

logger = logging.getLogger(__name__)

# Any number: it names the lock that says who sweeps.
LOCK = 74_686_511
STEPS: tuple[Callable[[], int], ...] = (
    absorb_nodes,
    sweep_due,
    judge_silence,
    mark_silent_nodes,
    cordon_drained,
)


def sweep() -> bool:
    """Take every step that is due unless another process is doing so; say whether it was done.

    Nothing here needs Valkey or Celery (law 1). A step that fails does not keep the others back.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
        ((is_ours,),) = cursor.fetchall()
        if not is_ours:
            return False
        try:
            for step in STEPS:
                _take(step)
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [LOCK])
    return True


def _take(step: Callable[[], int]) -> None:
    try:
        step()
    except (InterfaceError, OperationalError):
        raise
    except Exception:
        logger.exception("the sweep step %s failed", step.__name__)

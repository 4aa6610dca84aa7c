"""Restart and end of a machine (docs/semantics.md 2.7, domain power)."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

from agent.operations.base import Answer, Handler, OperationError, Params, has_systemd, program, run

# Seconds; what is further away than a year is a mistake.
DELAY_MAX = 366 * 86_400


def _schedule(option: str, params: Params) -> Answer:
    """Have `shutdown` do it in so many whole minutes; in one at the soonest.

    The agent must still be there to report that it is scheduled.
    """
    delay, message = int(params.get("delay") or 0), str(params.get("message") or "")
    if not 0 <= delay <= DELAY_MAX:
        text = f"the delay must be between 0 and {DELAY_MAX} seconds"
        raise OperationError(text, "invalid_value")
    if not message.isprintable():
        raise OperationError("the message must be one line of text", "invalid_value")
    tool = program("shutdown")
    if tool is None:
        raise OperationError("this node has no program shutdown", "not_found")
    minutes = max(1, -(-delay // 60))
    moment = datetime.fromtimestamp(time.time() + 60 * minutes, UTC)
    run([tool, option, "--", f"+{minutes}", *([message] if message else [])])
    told = moment.isoformat(timespec="seconds").replace("+00:00", "Z")
    return Answer(changed=True, data={"scheduled_at": told, "delay_seconds": 60 * minutes})


def _reboot(params: Params) -> Answer:
    return _schedule("-r", params)


def _shutdown(params: Params) -> Answer:
    return _schedule("-h", params)


HANDLERS: dict[str, Handler] = {
    "power.node.reboot": _reboot,
    "power.node.shutdown": _shutdown,
}


def available() -> Collection[str]:
    """Return what this machine can do: root alone, with a `shutdown` that has somebody to ask."""
    tool = program("shutdown")
    if tool is None or os.geteuid() != 0:
        return []
    # The one of systemd cannot schedule where systemd is installed but does not run.
    is_of_systemd = Path(tool).resolve().name == "systemctl"
    if is_of_systemd and not has_systemd():
        return []
    return list(HANDLERS)

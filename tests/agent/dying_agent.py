"""An agent that kills itself with SIGKILL at a named point: `dying_agent.py POINT run …`."""

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from agent.__main__ import main
from agent.execution import Execution
from agent.journal import Journal
from agent.reports import Reports
from agent.runners.script import ScriptRunner, ScriptWork
from agent.supervisor import Supervisor

# Point -> the method before which (or, with True, after which) the agent dies.
POINTS = {
    "assignment_received": (Supervisor, "_take", False),
    "assignment_journalled": (Supervisor, "_begin", False),
    "before_start": (ScriptRunner, "start", False),
    "started_not_journalled": (Execution, "_attend", False),
    "start_not_in_the_journal": (Journal, "record", False),
    "start_journalled": (ScriptWork, "release", False),
    "released": (ScriptWork, "release", True),
    "ended_not_reported": (Reports, "end", False),
    "end_journalled": (Reports, "end", True),
}


def die(*_args, **_kwargs):
    os.kill(os.getpid(), signal.SIGKILL)


def arm(point):
    owner, name, after = POINTS[point]
    real = getattr(owner, name)

    def run_and_die(*args, **kwargs):
        real(*args, **kwargs)
        die()

    def die_at_a_start(self, *args, entry=None, **kwargs):
        if entry is not None and entry.start:
            die()
        return real(self, *args, entry=entry, **kwargs)

    if owner is Journal:
        setattr(owner, name, die_at_a_start)
    else:
        setattr(owner, name, run_and_die if after else die)


if __name__ == "__main__":
    arm(sys.argv[1])
    sys.exit(main(sys.argv[2:]))

"""Real agents as processes, for tests: started, killed, and started again on the same folder."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from agent import processes
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]


class AgentProcess:
    """One node's agent and its data folder."""

    def __init__(self, folder, server, *options, module=("-m", "agent"), env=None):
        self.folder = folder
        self.server = server
        self.options = options
        self.python = (sys.executable,)
        self.module = module
        self.env = env or {}
        self.process = None
        self.log = folder.with_name(folder.name + ".log")

    def start(self, *extra):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *self.python,
                    *self.module,
                    "run",
                    "--server",
                    self.server.url,
                    "--data-dir",
                    str(self.folder),
                    "--name",
                    "edge-1",
                    *self.options,
                    *extra,
                ],
                cwd=ROOT,
                env={**os.environ, "PYTHONWARNINGS": "error", **self.env},
                stdout=log,
                stderr=log,
            )
        return self

    def kill(self):
        """End it as a crash would."""
        self.process.kill()
        self.process.wait(60)

    def terminate(self, deadline=60.0):
        """End it in an orderly way; return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(deadline)

    def wait(self, deadline=60.0):
        return self.process.wait(deadline)

    def entries(self):
        """Return what its journal says of each execution (the agent must not be writing)."""
        found = {}
        for line in (self.folder / "journal").read_bytes().splitlines():
            for part in line[9:].split(b"\x1e"):
                if part.startswith(b"E "):
                    value = json.loads(part[2:])
                    found[value["execution_id"]] = value
        return found

    def output(self):
        return self.log.read_text()


def processes_of(execution_id):
    """Return the pids of all processes that carry an execution's mark."""
    mark = f"{processes.EXECUTION}={execution_id}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def await_no_process(execution_id, deadline=60.0):
    wait_until(
        lambda: not processes_of(execution_id), deadline, f"processes of {execution_id} are left"
    )

"""Starting an engine process: a clean environment, its own session, three private descriptors."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import agent

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BOOT = "import runpy, sys; sys.path[:0] = sys.argv.pop(1).splitlines(); "


def command(module: str, *arguments: object) -> list[str]:
    """Return the command that runs a module of ours, from a checkout or from the zipapp."""
    run = f"{BOOT}runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    return [sys.executable, "-I", "-c", run, "\n".join(_roots()), *map(str, arguments)]


def _roots() -> list[str]:
    roots = [str(Path(agent.__file__).absolute().parent.parent)]
    spec = importlib.util.find_spec("mq_bridge")
    if spec is not None and spec.origin:
        roots.append(str(Path(spec.origin).absolute().parent.parent))
    return roots


def environment(home: str, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the whole environment of a pipeline: nothing of the agent's own gets in."""
    return {"PATH": PATH, "HOME": home, "LANG": "C.UTF-8", **variables}


@dataclass(slots=True)
class Descriptors:
    """Both ends of what joins the agent and the pipeline's process."""

    order: int
    control: socket.socket
    control_child: socket.socket
    log: int
    log_child: int

    @classmethod
    def open(cls, order: Mapping[str, Any]) -> Descriptors:
        """Open them; the order lies in memory only, so that no secret touches the disk."""
        memory = os.memfd_create("order")
        with os.fdopen(os.dup(memory), "wb") as file:
            file.write(json.dumps(order).encode())
        os.lseek(memory, 0, os.SEEK_SET)
        control, control_child = socket.socketpair()
        log, log_child = os.pipe()
        return cls(memory, control, control_child, log, log_child)

    @property
    def passed(self) -> tuple[int, int, int]:
        """The descriptors that the child gets, in the order of its arguments."""
        return self.order, self.control_child.fileno(), self.log_child

    def close_passed(self) -> None:
        """Close the child's ends here."""
        os.close(self.order)
        self.control_child.close()
        os.close(self.log_child)

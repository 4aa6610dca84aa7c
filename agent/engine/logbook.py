"""Pure. What the engine's own log says about a pipeline: its state, its errors, its lines."""

from __future__ import annotations

import json
import re

from agent.engine.document import REPEATED_ERROR_PATH

RANKS = {"off": 0, "none": 0, "fatal": 1, "error": 2, "warning": 3, "warn": 3, "info": 4}
STEP = re.compile(r"^root\.pipeline\.processors\.(\d+)")
WRAPPED = "root.output.broker.outputs.0.retry.output"
LAST_ERRORS = 50


class Logbook:
    """Reads the engine's JSON lines; `level` is what the job asked to see."""

    def __init__(self) -> None:
        self.level = "INFO"
        self.retried = False
        self.active = False
        self.steps: int | None = None
        self.output_errors = 0
        self.last_error = ""
        self.last_errors: dict[str, str] = {}

    def read(self, line: bytes) -> str | None:
        """Take one line in; return the line to show, or None for one to leave out."""
        try:
            entry = json.loads(line)
            level, text, path = str(entry["level"]), str(entry["msg"]), str(entry.get("path", ""))
            outward = entry.get("side") == "out"
        except (ValueError, KeyError, TypeError):
            return line.decode(errors="replace")
        if outward and path == REPEATED_ERROR_PATH:
            return None
        shown = self.path_of(path, outward)
        if not outward and level == "info" and path.startswith("root.input"):
            # "Input type x is now active"; a listener says where it listens instead.
            self.active = True
        if level == "error":
            self._error(shown, text, outward)
        if RANKS.get(level, 5) > RANKS.get(self.level.lower(), 9) or shown is None:
            return None
        label = f" ({entry['label']})" if entry.get("label") else ""
        return f"{level.upper()} {shown}{label}: {text}" if shown else f"{level.upper()} {text}"

    def skip(self, line: bytes) -> None:
        """Count a line that the allowance does not let through, without reading all of it."""
        if b'"level":"error"' in line:
            self.read(line)

    def path_of(self, path: str, outward: bool) -> str | None:
        """Return the path in the job's own document; None for a part that the runner added."""
        if outward:
            if path.startswith("root.pipeline") or path == "root.input":
                return None
            if self.retried:
                return f"output{path[len(WRAPPED) :]}" if path.startswith(WRAPPED) else None
        elif path.startswith("root.output"):
            return None
        step = None if outward else STEP.match(path)
        if step:
            if int(step.group(1)) == 0:
                return None
            path = f"root.pipeline.processors.{int(step.group(1)) - 1}{path[step.end() :]}"
        return path.removeprefix("root.")

    def _error(self, path: str | None, text: str, outward: bool) -> None:
        if outward:
            self.output_errors += 1
        if path is None:
            return
        self.last_error = f"{path}: {text}"
        if path in self.last_errors or len(self.last_errors) < LAST_ERRORS:
            self.last_errors[path] = text

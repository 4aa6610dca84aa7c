"""What an execution says of itself: states, windows, log lines and its result, as journalled frames."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from agent.journal import Journal
from agent.protocol import MAX_FRAME, Frame, Log, ResultReport, State, WindowReport, encode
from agent.records import Entry
from agent.runners.base import Outcome, Window

_LINES_PER_FRAME = 100
_RESULT_LIMIT = MAX_FRAME - (64 << 10)
_MESSAGE_LIMIT = 1000


class Reports:
    """The voice of one execution."""

    def __init__(self, entry: Entry, journal: Journal) -> None:
        # Restarts that no window has shown yet.
        self.unseen_restarts = 0
        self._entry = entry
        self._journal = journal

    def observe(self, state: str, **fields: Any) -> None:  # noqa: ANN401 - members of State
        """Report that the execution is now in this observed state."""
        self._entry.phase = state
        self._journal.record([self._state(state, **fields)], entry=self._entry)

    def end(self, state: str, outcome: Outcome, began: float, *, with_result: bool) -> None:
        """Report the last state and, in the same breath, the result (docs/semantics.md 4.7)."""
        message = outcome.error.strip().partition("\n")[0][:_MESSAGE_LIMIT]
        last = self._state(state, message=clean(message), error_code=outcome.error_code)
        frames: list[Frame] = [last]
        if with_result:
            frames.append(self._result(outcome, began))
        self._entry.phase = state
        self._journal.record(frames, entry=self._entry)

    def window(self, window: Window) -> None:
        """Report the numbers of one interval (docs/semantics.md 1.8)."""
        self._send_window(
            WindowReport(
                execution_id=self._entry.execution_id,
                number=0,
                started_at=timestamp(window.started_at.timestamp()),
                ended_at=timestamp(window.ended_at.timestamp()),
                messages_in=window.messages_in,
                messages_ok=window.messages_ok,
                errors=window.errors,
                processor_errors=window.processor_errors,
                output_errors=window.output_errors,
                process_alive=window.process_alive,
                restarts=window.restarts,
                cpu_percent=window.cpu,
                rss_bytes=window.rss,
                last_error=clean(window.last_error),
            )
        )

    def no_process(self, since: float) -> None:
        """Report an interval in which nothing ran: a restart is being waited for."""
        self._send_window(
            WindowReport(
                execution_id=self._entry.execution_id,
                number=0,
                started_at=timestamp(since),
                ended_at=timestamp(),
                process_alive=False,
            )
        )

    def log(self, stream: str, lines: list[str]) -> None:
        """Report lines; whatever is not the work's own output is the system's."""
        for first in range(0, len(lines), _LINES_PER_FRAME):
            self._entry.logs += 1
            frame = Log(
                execution_id=self._entry.execution_id,
                number=self._entry.logs,
                stream=stream if stream in {"stdout", "stderr"} else "system",
                lines=[clean(line) for line in lines[first : first + _LINES_PER_FRAME]],
                at=timestamp(),
            )
            self._journal.record([frame], lazy=True)

    def _send_window(self, window: WindowReport) -> None:
        self._entry.windows += 1
        restarts, self.unseen_restarts = window.restarts + self.unseen_restarts, 0
        numbered = replace(window, number=self._entry.windows, restarts=restarts)
        self._journal.record([numbered], lazy=True)

    def _state(self, state: str, **fields: Any) -> State:  # noqa: ANN401 - members of State
        return State(
            execution_id=self._entry.execution_id,
            observed_state=state,
            attempt=self._entry.attempt,
            restarts=self._entry.restarts,
            at=timestamp(),
            **fields,
        )

    def _result(self, outcome: Outcome, began: float) -> ResultReport:
        now = time.time()
        result = ResultReport(
            execution_id=self._entry.execution_id,
            status=outcome.status,
            attempt=self._entry.attempt,
            output=clean(outcome.output),
            error=clean(outcome.error),
            error_code=outcome.error_code,
            exit_code=None if outcome.status == "timeout" else outcome.exit_code,
            changed=outcome.changed,
            data=outcome.data,
            truncated=outcome.output_truncated,
            started_at=timestamp(began),
            completed_at=timestamp(now),
            duration_ms=max(0, round(1000 * (now - began))),
        )
        return fit(result)


def fit(result: ResultReport) -> ResultReport:
    """Return a result that fits into one frame: text that grows in JSON loses its beginning."""
    while len(encode(result)) > _RESULT_LIMIT:
        result = replace(
            result,
            output=result.output[len(result.output) // 4 + 1 :],
            error=result.error[len(result.error) // 4 + 1 :],
            truncated=True,
            data=result.data if len(repr(result.data)) < 1 << 20 else None,
        )
    return result


def failure(code: str, error: str) -> Outcome:
    """Return the outcome of work that failed without a process of its own to blame."""
    return Outcome(status="failed", exit_code=None, error_code=code, error=error)


def timestamp(seconds: float | None = None) -> str:
    """Return a time (Unix, seconds; now by default) as RFC 3339 in UTC."""
    moment = datetime.fromtimestamp(time.time() if seconds is None else seconds, UTC)
    return moment.isoformat(timespec="milliseconds")


def clean(text: str) -> str:
    """Return the text without NUL, which no database text may hold."""
    return text.replace("\0", "\ufffd")

"""Checks what an agent reported, frame by frame, before anything believes it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from agent.protocol import Ack, Frame, Log, ResultReport, State, WindowReport
from rollouts.states import ObservedState

_UUID_RE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_CODE_RE = re.compile(r"[a-z0-9_.-]{0,64}")
_INT32_MAX = 2**31 - 1
_INT64_MAX = 2**63 - 1
# docs/semantics.md 4.2: output and error 1 MiB each; the tail is what explains a failure.
OUTPUT_MAX = 1024 * 1024
_MESSAGE_MAX = 1024
_LOG_LINES_MAX = 5000
_DEPTH_MAX = 32
_STREAMS = frozenset({"stdout", "stderr", "system"})
# docs/semantics.md 4.6: the words of a result, and the observed state that each stands for.
RESULT_STATES: dict[str, ObservedState] = {
    "completed": ObservedState.COMPLETED,
    "skipped": ObservedState.COMPLETED,
    "failed": ObservedState.FAILED,
    "timeout": ObservedState.FAILED,
    "cancelled": ObservedState.STOPPED,
}


class BadReport(ValueError):  # noqa: N818 - a name, as the log shows it
    """A frame whose members are not what the protocol says; nothing of it is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AckSeen:
    """The node knows the desired state of this number."""

    execution_id: str
    desired_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSeen:
    """The node says where an execution stands."""

    execution_id: str
    observed_state: ObservedState
    attempt: int = 1
    restarts: int = 0
    message: str = ""
    error_code: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSeen:
    """What an execution did in one interval; counts are messages of that interval alone."""

    execution_id: str
    number: int
    started_at: datetime
    ended_at: datetime
    messages_in: int = 0
    messages_ok: int = 0
    errors: int = 0
    processor_errors: int = 0
    output_errors: int = 0
    process_alive: bool = True
    restarts: int = 0
    cpu_percent: float | None = None
    rss_bytes: int | None = None
    last_error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSeen:
    """Lines that an execution wrote."""

    execution_id: str
    number: int
    stream: str
    text: str
    line_count: int
    at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultSeen:
    """How an execution ended (docs/semantics.md 4.7)."""

    execution_id: str
    status: str
    attempt: int = 1
    output: str = ""
    error: str = ""
    exit_code: int | None = None
    changed: bool | None = None
    data: Any = None
    truncated: bool = False
    started_at: datetime | None = None
    completed_at: datetime | None = None
    duration_ms: int | None = None


Report = AckSeen | StateSeen | WindowSeen | LogSeen | ResultSeen


def read_report(frame: Frame) -> Report:
    """Return the checked report of a sequenced frame. Raises BadReport."""
    match frame:
        case Ack():
            return AckSeen(
                execution_id=_id(frame.execution_id), desired_seq=_count(frame.desired_seq)
            )
        case State():
            return _state(frame)
        case WindowReport():
            return _window(frame)
        case Log():
            return _log(frame)
        case ResultReport():
            return _result(frame)
    raise BadReport(f"{frame.kind} is not a report")


def clean_text(value: object, limit: int = _MESSAGE_MAX) -> str:
    """Return a text that PostgreSQL can store, at most `limit` characters, its end kept."""
    if not isinstance(value, str):
        raise BadReport(f"expected a text, found {type(value).__name__}")
    text = value.replace("\x00", "\ufffd")
    return text.encode(errors="replace").decode()[-limit:]


def clean_json(value: object, depth: int = 0) -> Any:  # noqa: ANN401 - JSON is any of its types
    """Return JSON that PostgreSQL can store: no NUL, no lone surrogates, no NaN, not too deep."""
    if depth > _DEPTH_MAX:
        raise BadReport("the data is nested too deeply")
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if value - value == 0 else None
        case str():
            return clean_text(value, OUTPUT_MAX)
        case list():
            return [clean_json(item, depth + 1) for item in value]
        case dict():
            return {clean_text(k, 256): clean_json(v, depth + 1) for k, v in value.items()}
    raise BadReport(f"{type(value).__name__} is not JSON")


def _state(frame: State) -> StateSeen:
    try:
        observed = ObservedState(frame.observed_state)
    except ValueError as error:
        raise BadReport(f"unknown state {str(frame.observed_state)[:64]!r}") from error
    return StateSeen(
        execution_id=_id(frame.execution_id),
        observed_state=observed,
        attempt=_count(frame.attempt),
        restarts=_count(frame.restarts),
        message=clean_text(frame.message),
        error_code=_code(frame.error_code),
        details=_mapping(frame.details),
    )


def _window(frame: WindowReport) -> WindowSeen:
    started_at, ended_at = _time(frame.started_at), _time(frame.ended_at)
    if started_at is None or ended_at is None:
        raise BadReport("a window needs both of its times")
    return WindowSeen(
        execution_id=_id(frame.execution_id),
        number=_count(frame.number),
        started_at=started_at,
        ended_at=ended_at,
        messages_in=_count(frame.messages_in, _INT64_MAX),
        messages_ok=_count(frame.messages_ok, _INT64_MAX),
        errors=_count(frame.errors, _INT64_MAX),
        processor_errors=_count(frame.processor_errors, _INT64_MAX),
        output_errors=_count(frame.output_errors, _INT64_MAX),
        process_alive=_flag(frame.process_alive),
        restarts=_count(frame.restarts),
        cpu_percent=_number(frame.cpu_percent),
        rss_bytes=None if frame.rss_bytes is None else _count(frame.rss_bytes, _INT64_MAX),
        last_error=clean_text(frame.last_error),
    )


def _log(frame: Log) -> LogSeen:
    if frame.stream not in _STREAMS:
        raise BadReport(f"unknown stream {str(frame.stream)[:64]!r}")
    if not isinstance(frame.lines, list):
        raise BadReport("lines is not a list")
    lines = [clean_text(line, OUTPUT_MAX) for line in frame.lines[-_LOG_LINES_MAX:]]
    return LogSeen(
        execution_id=_id(frame.execution_id),
        number=_count(frame.number, _INT64_MAX),
        stream=frame.stream,
        text="\n".join(lines)[-OUTPUT_MAX:],
        line_count=len(lines),
        at=_time(frame.at),
    )


def _result(frame: ResultReport) -> ResultSeen:
    if frame.status not in RESULT_STATES:
        raise BadReport(f"unknown result {str(frame.status)[:64]!r}")
    exit_code = frame.exit_code
    if exit_code is not None:
        exit_code = _count(abs(_int(exit_code))) * (-1 if exit_code < 0 else 1)
    output, error = clean_text(frame.output, _INT64_MAX), clean_text(frame.error, _INT64_MAX)
    cut = len(output) > OUTPUT_MAX or len(error) > OUTPUT_MAX
    return ResultSeen(
        execution_id=_id(frame.execution_id),
        status=frame.status,
        attempt=_count(frame.attempt),
        output=output[-OUTPUT_MAX:],
        error=error[-OUTPUT_MAX:],
        exit_code=exit_code,
        changed=None if frame.changed is None else _flag(frame.changed),
        data=clean_json(frame.data),
        truncated=_flag(frame.truncated) or cut,
        started_at=_time(frame.started_at),
        completed_at=_time(frame.completed_at),
        duration_ms=None if frame.duration_ms is None else _count(frame.duration_ms, _INT64_MAX),
    )


def _id(value: object) -> str:
    if isinstance(value, str) and _UUID_RE.fullmatch(value):
        return value
    raise BadReport("execution_id is not a UUID")


def _int(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise BadReport(f"expected a whole number, found {type(value).__name__}")


def _count(value: object, limit: int = _INT32_MAX) -> int:
    number = _int(value)
    if 0 <= number <= limit:
        return number
    raise BadReport("a number is out of range")


def _number(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12:
        return float(value)
    raise BadReport("expected a number")


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise BadReport("expected true or false")


def _code(value: object) -> str:
    if isinstance(value, str) and _CODE_RE.fullmatch(value):
        return value
    raise BadReport("error_code is not a word")


def _mapping(value: object) -> dict[str, Any]:
    if isinstance(value, dict):
        return dict(clean_json(value))
    raise BadReport("details is not an object")


def _time(value: object) -> datetime | None:
    """Read RFC 3339; "" is no time. A time without zone is refused."""
    if value == "":
        return None
    try:
        at = datetime.fromisoformat(value)  # type: ignore[arg-type]
        if at.tzinfo is None:
            raise BadReport("a time has no zone")
        return at.astimezone(UTC)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadReport("a time cannot be read") from error

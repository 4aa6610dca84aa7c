"""What an agent reports is believed only if it is what the protocol says it is (docs/semantics.md 4.7)."""

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from agent.protocol import Ack, Frame, Log, ResultReport, State, WindowReport
from rollouts.reports import (
    OUTPUT_MAX,
    AckSeen,
    BadReport,
    StateSeen,
    clean_json,
    clean_text,
    read_report,
)
from rollouts.states import ObservedState

ID = "01a20e55-b8c5-7339-9f31-af26d366a2a6"
ACK = Ack(execution_id=ID, desired_seq=3)
STATE = State(execution_id=ID, observed_state="running")
WINDOW = WindowReport(
    execution_id=ID,
    number=1,
    started_at="2026-01-15T10:30:00Z",
    ended_at="2026-01-15T11:30:10+01:00",
)
LOG = Log(execution_id=ID, number=1, stream="stdout", lines=["a", "b"])
RESULT = ResultReport(execution_id=ID, status="completed")


def test_an_acknowledgement_names_the_desired_state():
    assert read_report(ACK) == AckSeen(execution_id=ID, desired_seq=3)


def test_a_state_is_read_with_everything_beside_it():
    frame = replace(STATE, attempt=2, restarts=1, message="up", error_code="x_1", details={"a": 1})
    assert read_report(frame) == StateSeen(
        execution_id=ID,
        observed_state=ObservedState.RUNNING,
        attempt=2,
        restarts=1,
        message="up",
        error_code="x_1",
        details={"a": 1},
    )


def test_times_are_read_in_utc():
    seen = read_report(WINDOW)
    assert seen.started_at == datetime(2026, 1, 15, 10, 30, tzinfo=UTC)
    assert (seen.ended_at - seen.started_at).total_seconds() == 10
    assert (seen.cpu_percent, seen.rss_bytes) == (None, None)
    assert read_report(replace(WINDOW, cpu_percent=7, rss_bytes=9)).cpu_percent == 7.0


def test_lines_of_a_log_are_counted_and_an_unknown_time_is_none():
    seen = read_report(LOG)
    assert (seen.text, seen.line_count, seen.at) == ("a\nb", 2, None)


def test_of_a_result_that_is_too_long_the_end_is_kept():
    frame = replace(RESULT, output="x" * OUTPUT_MAX + "end", exit_code=-9, changed=True)
    seen = read_report(frame)
    assert (len(seen.output), seen.output[-3:], seen.truncated) == (OUTPUT_MAX, "end", True)
    assert (seen.exit_code, seen.changed) == (-9, True)
    short = read_report(replace(RESULT, duration_ms=5, data={"a": [1, None, True, 0.5, "b"]}))
    assert (short.truncated, short.exit_code, short.duration_ms) == (False, None, 5)
    assert short.data == {"a": [1, None, True, 0.5, "b"]}


@pytest.mark.parametrize(
    "frame",
    [
        Frame(seq=1),
        replace(ACK, execution_id="not-a-uuid"),
        replace(ACK, execution_id=7),
        replace(ACK, desired_seq=-1),
        replace(ACK, desired_seq=2**31),
        replace(ACK, desired_seq=True),
        replace(ACK, desired_seq="3"),
        replace(STATE, observed_state="flying"),
        replace(STATE, error_code="No Words"),
        replace(STATE, error_code=None),
        replace(STATE, message=["x"]),
        replace(STATE, details=[]),
        replace(STATE, details={"a": object()}),
        replace(WINDOW, started_at=""),
        replace(WINDOW, ended_at="yesterday"),
        replace(WINDOW, ended_at="2026-01-15T10:30:00"),
        replace(WINDOW, ended_at=17),
        replace(WINDOW, ended_at="0001-01-01T00:00:00+14:00"),
        replace(WINDOW, process_alive=1),
        replace(WINDOW, cpu_percent="7"),
        replace(WINDOW, cpu_percent=1e12),
        replace(WINDOW, errors=2**63),
        replace(LOG, stream="stdlog"),
        replace(LOG, lines="abc"),
        replace(LOG, lines=[1]),
        replace(RESULT, status="fine"),
        replace(RESULT, exit_code="0"),
        replace(RESULT, exit_code=2**31),
        replace(RESULT, changed="yes"),
    ],
    ids=lambda frame: re.sub(r" at 0x\w+", "", repr(frame)),
)
def test_what_is_not_as_the_protocol_says_is_no_report(frame):
    with pytest.raises(BadReport):
        read_report(frame)


def test_texts_are_made_storable_and_their_end_is_kept():
    assert clean_text("a\x00b\ud800") == "a\ufffdb?"
    assert clean_text("abcdef", 3) == "def"


def test_numbers_that_are_none_become_nothing_and_depth_has_an_end():
    assert clean_json([float("nan"), float("inf"), 1.5]) == [None, None, 1.5]
    deep = "x"
    for _ in range(33):
        deep = [deep]
    with pytest.raises(BadReport, match="too deeply"):
        clean_json(deep)
    assert clean_json(deep[0]) == deep[0]

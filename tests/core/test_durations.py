"""Durations: what is read, what is refused, and how they are printed (docs/semantics.md 1.6, X42)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.durations import DurationError, format_duration, parse_duration

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("given_value", "nanoseconds"),
    [
        ("10s", 10 * SECOND),
        ("500ms", SECOND // 2),
        ("1h30m", 5400 * SECOND),
        ("30m1h", 5400 * SECOND),
        ("1s1s", 2 * SECOND),
        ("1.5s", 1_500_000_000),
        ("007s", 7 * SECOND),
        ("0s", 0),
        (1_000_000, 1_000_000),
        (10 * SECOND, 10 * SECOND),
    ],
)
def test_a_readable_duration_becomes_nanoseconds(given_value, nanoseconds):
    assert parse_duration(given_value) == nanoseconds


@pytest.mark.parametrize("bare", [0, 30, 999_999])
def test_a_small_bare_number_is_suspicious(bare):
    with pytest.raises(DurationError) as refused:
        parse_duration(bare)
    assert refused.value.code == "suspicious_duration"


@pytest.mark.parametrize(
    "value",
    [
        *["", "10", "10 s", " 10s", "10s ", "+1s", "-1s", "1us", "1ns", "1d", "1.s", ".5s", "1S"],
        *["٣s", "0.0000000001s", "9" * 40 + "h", "1s" * 33, "1s\n"],
        *[-1, -SECOND, 1e10, 2.0, True, False, None, [], {}, 2**63],
    ],
)
def test_anything_else_is_an_invalid_duration(value):
    with pytest.raises(DurationError) as refused:
        parse_duration(value)
    assert refused.value.code == "invalid_duration"
    assert refused.value.message


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (90 * SECOND, "1m30s"),
        (60 * SECOND, "1m"),
        (3600 * SECOND, "1h"),
        (3605 * SECOND, "1h5s"),
        (1_500_000_000, "1s500ms"),
        (1_500_000, "1.5ms"),
        (1, "0.000001ms"),
        (0, "0s"),
    ],
)
def test_a_duration_is_printed_with_its_largest_units(nanoseconds, text):
    assert format_duration(nanoseconds) == text


@given(st.integers(0, 2**63 - 1))
def test_a_printed_duration_reads_back_as_itself(nanoseconds):
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds

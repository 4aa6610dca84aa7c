"""What is shown of the engine's log, and how much of it (docs/semantics.md 5)."""

import json

from agent.engine.caps import BYTES_PER_HOUR, LINE_LIMIT, LINES_PER_SECOND, Allowance, Lines, Tail
from agent.engine.logbook import Logbook

WRAPPED = "root.output.broker.outputs.0.retry.output"


def line(path, text="boom", level="error", side="in"):
    entry = {"level": level, "msg": text, "path": path, "side": side}
    return json.dumps(entry, separators=(",", ":")).encode()


def test_a_path_reads_as_in_the_jobs_own_document():
    book = Logbook()
    book.retried = True
    assert book.read(line("root.pipeline.processors.3.try.0")) == (
        "ERROR pipeline.processors.2.try.0: boom"
    )
    assert book.read(line(WRAPPED + ".broker.outputs.1", side="out")) == (
        "ERROR output.broker.outputs.1: boom"
    )


def test_the_error_that_the_sink_repeats_is_shown_once():
    book = Logbook()
    assert book.read(line("root.pipeline.processors.1", side="out")) is None
    assert book.output_errors == 0


def test_an_error_of_the_output_is_counted():
    book = Logbook()
    book.retried = True
    book.read(line(WRAPPED, "refused", side="out"))
    book.skip(line(WRAPPED, "refused", side="out"))
    book.skip(line(WRAPPED, "fine", level="info", side="out"))
    assert book.output_errors == 2
    assert book.last_errors == {"output": "refused"}


def test_the_job_decides_which_lines_are_shown_but_not_which_are_counted():
    book = Logbook()
    book.level = "OFF"
    assert book.read(line("root.output", side="out")) is None
    assert book.output_errors == 1
    book.level = "ERROR"
    assert book.read(line("root.input", "hello", level="info")) is None
    assert book.active


def test_a_line_that_is_not_json_is_shown_as_it_is():
    assert Logbook().read(b"plain words") == "plain words"


def test_two_hundred_lines_a_second_pass_and_the_rest_are_counted():
    allowance = Allowance()
    assert sum(allowance.admit(10, 5.0 + i / 1000) for i in range(500)) == LINES_PER_SECOND
    assert allowance.take_dropped() == 500 - LINES_PER_SECOND
    assert allowance.take_dropped() == 0
    assert allowance.admit(10, 6.0)


def test_ten_megabytes_an_hour_pass():
    allowance = Allowance()
    passed = sum(allowance.admit(100_000, float(second)) for second in range(200))
    assert passed == BYTES_PER_HOUR // 100_000
    assert allowance.admit(100_000, 3600.0)


def test_a_long_line_is_cut_however_it_arrives():
    for size in (1, 1000, 100_000):
        lines, data, found = Lines(), b"a" * 10_000 + b"\nshort\nrest", []
        for start in range(0, len(data), size):
            found += lines.feed(data[start : start + size])
        found += lines.end()
        assert found == [b"a" * LINE_LIMIT + b" (cut)", b"short", b"rest"]


def test_the_tail_keeps_the_end():
    tail = Tail(10)
    for number in range(30):
        tail.add(b"%d," % number)
    assert tail.text() == ",27,28,29,"
    assert tail.truncated

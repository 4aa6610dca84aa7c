"""The chaos harness itself: what it hears, what it blames, and what its seed decides."""

import json
import os
import struct

from bench.chaos.faults import Span
from bench.chaos.replay import Listener, Tape
from bench.chaos.schedule import KINDS, make_schedule
from bench.chaos.stalls import _merged, _nobody_stands, between


def masked(value):
    """A text frame of a websocket, as a client sends it."""
    text = json.dumps(value).encode()
    mask = os.urandom(4)
    size = len(text)
    head = bytes([size | 128]) if size < 126 else b"\xfe" + struct.pack(">H", size)
    return b"\x81" + head + mask + bytes(c ^ mask[k % 4] for k, c in enumerate(text))


def test_the_proxy_hears_every_frame_however_the_bytes_are_cut():
    frames = [{"type": "hello", "node_id": "n"}, {"type": "ack", "seq": 1}]
    frames += [{"type": "log", "seq": 2, "lines": ["x" * 300]}, {"type": "heartbeat", "seq": 0}]
    stream = b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n" + b"".join(map(masked, frames))
    for size in (1, 7, 64, len(stream)):
        tape = Tape()
        listener = Listener(tape)
        for begin in range(0, len(stream), size):
            listener.feed(stream[begin : begin + size])
        assert tape.hello == frames[0]
        assert [json.loads(text)["seq"] for text in tape.up_to(9)] == [1, 2]
        assert len(tape.up_to(1)) == 1


def test_the_body_of_a_plain_request_is_no_frame():
    tape = Tape()
    listener = Listener(tape)
    listener.feed(b"POST /agent/v1/enroll HTTP/1.1\r\nHost: x\r\n\r\n")
    listener.feed(b"\x81\x82aaaa\xff\x00" + b"1" * 200)
    assert (tape.hello, tape.up_to(9)) == (None, [])


def test_the_schedule_is_the_seeds_and_has_every_kind_once_at_first():
    schedule = make_schedule(3, 100, 2.0)
    assert schedule == make_schedule(3, 100, 2.0) != make_schedule(4, 100, 2.0)
    assert {fault.kind for fault in schedule[: len(KINDS)]} == set(KINDS)


def test_only_the_time_in_which_every_decider_is_dead_is_the_faults_own():
    spans = [
        Span(kind="web.kill", name="web-1", start=0, end=5),
        Span(kind="web.term", name="web-2", start=2, end=8),
        Span(kind="worker.kill", name="worker-1", start=1, end=6),
        Span(kind="worker.kill", name="worker-2", start=3, end=4),
        Span(kind="worker.child", name="worker-2", start=0, end=9),
    ]
    assert _merged(_nobody_stands(spans)) == [[3, 4]]
    assert _nobody_stands(spans[:3]) == []


def test_a_wait_is_what_lies_between_the_outages():
    outages = [[0.0, 2.0], [3.0, 4.5], [6.0, 9.0], [20.0, 30.0]]
    assert between(1.0, 10.0, outages) == [1.0, 1.5, 1.0]
    assert between(3.5, 4.0, outages) == []
    assert between(9.5, 12.0, outages) == [2.5]
    assert between(5.0, 7.0, outages) == [1.0]

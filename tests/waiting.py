"""Waiting for a condition with a deadline: what tests use in place of sleeping."""

import threading
import time


def wait_until(predicate, deadline=10.0, message=""):
    """Ask until `predicate` is true and give its answer; fail after `deadline` seconds."""
    end, pulse = time.monotonic() + deadline, threading.Event()
    while not (answer := predicate()):
        if time.monotonic() > end:
            raise AssertionError(message or f"not true within {deadline:g} s: {predicate}")
        pulse.wait(0.02)
    return answer

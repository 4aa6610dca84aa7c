"""Waiting for a condition with a deadline: what tests use in place of sleeping."""

import threading
import time


def wait_until(predicate, deadline=60.0, message="", every=0.02):
    """Ask every few instants until `predicate` is true; give its answer, or fail at the deadline."""
    end, pulse = time.monotonic() + deadline, threading.Event()
    while not (answer := predicate()):
        if time.monotonic() > end:
            raise AssertionError(message or f"not true within {deadline:g} s: {predicate}")
        pulse.wait(every)
    return answer

"""What questions of the database cost beside threads that compute, by the switch interval (ADR 0018).

`python -m bench.turns`: as many questions as a decision asks, on one thread of a process.
"""

import os
import statistics
import sys
import threading
import time
from contextlib import contextmanager

import psycopg

from tests.stack import TestStack

QUESTIONS, ROUNDS = 28, 9
BUSY = 2
DEFAULT, OURS = 0.005, 0.0005


@contextmanager
def busy_threads(count, done):
    """Let threads compute meanwhile; `done` is told how much they did."""
    end = threading.Event()

    def compute():
        number = 0
        while not end.is_set():
            for step in range(1000):
                number += step
            done.append(1)

    threads = [threading.Thread(target=compute) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        end.set()
        for thread in threads:
            thread.join()


def measure(where, interval, busy):
    """Return the median seconds of one decision's questions, and what busy threads did a second."""
    sys.setswitchinterval(interval)
    seconds, done = [], []
    with busy_threads(busy, done):
        began = time.perf_counter()
        for _ in range(ROUNDS):
            start = time.perf_counter()
            for _ in range(QUESTIONS):
                where.execute("SELECT 1").fetchall()
            seconds.append(time.perf_counter() - start)
        whole = time.perf_counter() - began
    return statistics.median(seconds), len(done) / whole


def main():
    """Print the figures of both intervals, and their ratio."""
    stack = TestStack()
    stack.start()
    try:
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as where:
            alone, _ = measure(where, DEFAULT, 0)
            before, work_before = measure(where, DEFAULT, BUSY)
            after, work_after = measure(where, OURS, BUSY)
    finally:
        stack.stop()
    print(f"{QUESTIONS} questions alone: {alone * 1000:.1f} ms")
    print(f"beside {BUSY} busy threads, {DEFAULT * 1000:g} ms: {before * 1000:.1f} ms")
    print(f"beside {BUSY} busy threads, {OURS * 1000:g} ms: {after * 1000:.1f} ms")
    print(f"{after / before:.2f}x of the default; busy threads did {work_after / work_before:.2f}x")


if __name__ == "__main__":
    main()

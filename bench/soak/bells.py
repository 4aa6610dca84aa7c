"""Bells before the soak: a pool process that has answered few is still filling its caches."""

import time
from itertools import cycle, islice
from uuid import uuid4

from celery import Celery

from jobsite.settings import broker_url
from tests.waiting import wait_until

# A process grows no more after some ten thousand; this long the workers are kept busy with them.
SECONDS = 240.0
# The web keeps the newest 1,000 that wait.
MOST_WAITING, AT_ONCE = 400, 200
BELLS = (
    ("rollouts.reconcile_due", ()),
    ("rollouts.evaluate_health", ()),
    ("rollouts.absorb_nodes", ()),
    ("rollouts.reconcile_job", (str(uuid4()),)),
)


def ring_first(redis_url, count_waiting, seconds=SECONDS):
    """Ring for so long, no faster than it is answered; return how many bells were rung."""
    end, rung = time.monotonic() + seconds, 0
    bells = cycle(BELLS)
    with Celery(broker=broker_url(redis_url)) as app, app.producer_or_acquire() as producer:
        while time.monotonic() < end:
            wait_until(
                lambda: count_waiting() <= MOST_WAITING or time.monotonic() > end, seconds + 10
            )
            for name, args in islice(bells, AT_ONCE):
                app.send_task(name, args=args, ignore_result=True, producer=producer)
            rung += AT_ONCE
    return rung

"""Bells before the soak: a pool process that has answered few is still filling its caches."""

from itertools import cycle, islice
from uuid import uuid4

from celery import Celery

from jobsite.settings import broker_url
from tests.waiting import wait_until

# After so many a pool of two grows no more; before, each process of it still does.
FIRST = 30_000
# The web keeps the newest 1,000 that wait.
MOST_WAITING, AT_ONCE = 400, 200
BELLS = (
    ("rollouts.reconcile_due", ()),
    ("rollouts.evaluate_health", ()),
    ("rollouts.absorb_nodes", ()),
    ("rollouts.reconcile_job", (str(uuid4()),)),
)


def ring_first(redis_url, count_waiting, count=FIRST):
    """Ring so many bells, no faster than they are answered, and wait for the last of them."""
    bells = cycle(BELLS)
    with Celery(broker=broker_url(redis_url)) as app, app.producer_or_acquire() as producer:
        for _ in range(0, count, AT_ONCE):
            wait_until(lambda: count_waiting() <= MOST_WAITING)
            for name, args in islice(bells, AT_ONCE):
                app.send_task(name, args=args, ignore_result=True, producer=producer)
    wait_until(lambda: count_waiting() < len(BELLS))

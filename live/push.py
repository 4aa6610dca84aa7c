"""Doorbells: announce that a row changed, and ring a background function by its name."""

import contextlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from uuid import UUID

from celery import current_app
from channels.layers import get_channel_layer
from django.conf import settings
from django.db import transaction
from kombu.exceptions import OperationalError
from redis import Redis
from redis.exceptions import RedisError

# Bells that may wait. Each means "look again", so what is older than these says nothing more.
BELLS_KEPT = 1000
# A doorbell that does not sound is made good by a sweep or a poll, so these cost only latency.
UNHEARD = (OperationalError, RedisError, OSError)
# Up to so many rows are announced whether anybody listens or not.
FEW = 20


def group_name(noun: str, pk: object) -> str:
    """Return the channel group of one row's live pages."""
    return f"{noun}.{pk}"


def announce(noun: str, pk: object, revision: int) -> None:
    """Say, once the transaction has committed, that a row changed. Never content."""
    transaction.on_commit(lambda: _send_group(noun, str(pk), revision), robust=True)


def announce_all(bells: Mapping[tuple[str, UUID], int]) -> None:
    """Announce many rows, given as revision by (noun, id), after one commit.

    It crosses to the event loop once for all of them: a batch of reports changes hundreds.
    """
    if bells:
        kept = dict(bells)
        transaction.on_commit(lambda: _send_groups(kept), robust=True)


def ring(name: str, *args: str) -> None:
    """Wake a background function by name once the transaction has committed."""
    transaction.on_commit(lambda: _send_task(name, args), robust=True)


def call_gateways() -> None:
    """Ask every gateway process to look for undelivered desired states, after the commit."""
    transaction.on_commit(lambda: _send_group("gateway", "all", 0), robust=True)


def hush() -> None:
    """Forget all but the newest bells that wait: without a worker they would fill the doorbell.

    Sweeps do what a forgotten bell was rung for (law 1).
    """
    with contextlib.suppress(*UNHEARD), current_app.producer_or_acquire() as producer:
        queue = current_app.conf.task_default_queue
        producer.channel.client.ltrim(queue, 0, BELLS_KEPT - 1)


def _send_group(noun: str, pk: str, revision: int) -> None:
    _send_groups({(noun, pk): revision})


def _send_groups(bells: Mapping[tuple[str, Any], int]) -> None:
    """Publish what `group_send` of the channel layer would, in one round trip for all of them.

    The layer itself opens an event loop and a connection for each call from synchronous code.
    """
    layer: Any = get_channel_layer()
    config: Any = settings.CHANNEL_LAYERS["default"]["CONFIG"]
    prefix = f"{config['prefix']}__group__"
    with contextlib.suppress(*UNHEARD), _wire().pipeline(transaction=False) as pipeline:
        heard = _groups_heard(prefix) if len(bells) > FEW else None
        for (noun, pk), revision in bells.items():
            group = f"{prefix}{group_name(noun, pk)}"
            if heard is None or group in heard:
                message = {"type": "announce", "noun": noun, "pk": str(pk), "revision": revision}
                pipeline.publish(group, layer.serialize(message))
        pipeline.execute()


def _groups_heard(prefix: str) -> set[str]:
    """Return the groups that anybody listens to: most rows of a batch are on no page.

    Whoever joins a group after this was asked renders what is committed already.
    """
    names: Any = _wire().pubsub_channels(f"{prefix}*")
    return {name.decode() for name in names}


@lru_cache(maxsize=1)
def _wire() -> Redis:
    """Return this process's connections to the doorbell; a hung server must not hold anybody."""
    return Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2)


def _send_task(name: str, args: tuple[str, ...]) -> None:
    with contextlib.suppress(*UNHEARD):
        current_app.send_task(name, args=args, retry=False, ignore_result=True)

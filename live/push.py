"""Doorbells: announce that a row changed, and ring a background function by its name."""

import contextlib
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync
from celery import current_app
from channels.layers import get_channel_layer
from django.db import transaction
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

# A doorbell that does not sound is made good by a sweep or a poll, so these cost only latency.
UNHEARD = (OperationalError, RedisError, OSError)


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


def _send_group(noun: str, pk: str, revision: int) -> None:
    _send_groups({(noun, pk): revision})


def _send_groups(bells: Mapping[tuple[str, Any], int]) -> None:
    # The first one that is not heard means that none will be.
    with contextlib.suppress(*UNHEARD):
        async_to_sync(_send_all)(bells)


async def _send_all(bells: Mapping[tuple[str, Any], int]) -> None:
    layer = get_channel_layer()
    assert layer is not None, "CHANNEL_LAYERS has a default"
    for (noun, pk), revision in bells.items():
        message = {"type": "announce", "noun": noun, "pk": str(pk), "revision": revision}
        await layer.group_send(group_name(noun, pk), message)


def _send_task(name: str, args: tuple[str, ...]) -> None:
    with contextlib.suppress(*UNHEARD):
        current_app.send_task(name, args=args, retry=False, ignore_result=True)

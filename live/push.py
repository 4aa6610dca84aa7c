"""Doorbells: announce that a row changed, and ring a background function by its name."""

import contextlib
import logging
from typing import Any

from asgiref.sync import async_to_sync
from celery import current_app
from channels.layers import get_channel_layer
from django.db import transaction
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

# A doorbell that does not sound is made good by a sweep or a poll, so these cost only latency.
UNHEARD = (OperationalError, RedisError, OSError)


def group_name(noun: str, pk: object) -> str:
    """Return the channel group of one row's live pages."""
    return f"{noun}.{pk}"


def announce(noun: str, pk: object, revision: int) -> None:
    """Say, once the transaction has committed, that a row changed. Never content."""
    transaction.on_commit(lambda: _send_group(noun, str(pk), revision), robust=True)


def ring(name: str, *args: Any) -> None:
    """Wake a background function by name once the transaction has committed."""
    transaction.on_commit(lambda: _send_task(name, args), robust=True)


def call_gateways() -> None:
    """Ask every gateway process to look for undelivered desired states, after the commit."""
    transaction.on_commit(lambda: _send_group("gateway", "all", 0), robust=True)


def _send_group(noun: str, pk: str, revision: int) -> None:
    layer = get_channel_layer()
    assert layer is not None, "CHANNEL_LAYERS has a default"
    message = {"type": "announce", "noun": noun, "pk": pk, "revision": revision}
    with contextlib.suppress(*UNHEARD):
        async_to_sync(layer.group_send)(group_name(noun, pk), message)


def _send_task(name: str, args: tuple[Any, ...]) -> None:
    with contextlib.suppress(*UNHEARD):
        current_app.send_task(name, args=args, retry=False, ignore_result=True)

"""Rings the doorbells of many rows at once, after one commit."""

import contextlib
from collections.abc import Mapping
from uuid import UUID

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction

from live.push import UNHEARD, group_name


def announce_all(bells: Mapping[tuple[str, UUID], int]) -> None:
    """Announce rows, given as revision by (noun, id), once the transaction has committed.

    It says what `live.push.announce` says, but crosses to the event loop once for all of them:
    a batch of reports changes hundreds of rows.
    """
    if bells:
        transaction.on_commit(lambda: async_to_sync(_send)(dict(bells)), robust=True)


async def _send(bells: Mapping[tuple[str, UUID], int]) -> None:
    layer = get_channel_layer()
    assert layer is not None  # named in the settings
    # The first one that is not heard means that none will be.
    with contextlib.suppress(*UNHEARD):
        for (noun, pk), revision in bells.items():
            message = {"type": "announce", "noun": noun, "pk": str(pk), "revision": revision}
            await layer.group_send(group_name(noun, pk), message)

"""When nodes were last heard, what they use, and when the control plane itself could hear."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
from django.utils import timezone
from psycopg.types.json import Jsonb

from live.push import announce

_CLOCK = 1
# What a page shows of a node's use need not follow every flicker.
NOTABLE_PERCENT = 5.0
# Among a node's conditions: it takes no new work, since its disk has no room.
JOURNAL_FULL = '[{"type": "JournalFull", "status": true}]'


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """What the last heartbeat of a node said."""

    resources: Mapping[str, Any]
    conditions: list[Any]


def is_notable(old: Vitals | None, new: Vitals) -> bool:
    """Say whether a heartbeat says enough that is new to be written.

    >>> calm = Vitals(resources={"cpu_percent": 10.0}, conditions=[])
    >>> is_notable(calm, Vitals(resources={"cpu_percent": 14.0}, conditions=[]))
    False
    """
    if old is None or old.conditions != new.conditions:
        return True
    if old.resources.keys() != new.resources.keys():
        return True
    return any(_differs(name, old.resources[name], new.resources[name]) for name in new.resources)


def _differs(name: str, old: object, new: object) -> bool:
    if not (isinstance(old, int | float) and isinstance(new, int | float)):
        return old != new
    if name.endswith("_percent"):
        return abs(new - old) >= NOTABLE_PERCENT
    return abs(new - old) * 100 >= NOTABLE_PERCENT * max(abs(old), abs(new), 1)


def record_presence(
    seen: Mapping[UUID, datetime], gateway: str, *, claim: bool = False
) -> set[UUID]:
    """Write when these nodes were last heard: one statement, whatever their number.

    Returns the nodes whose session is still this gateway's: a node belongs to the one that
    claimed it last, which is when its session opened, and it must be accepted and not deleted.
    """
    if not seen:
        return set()
    ids = sorted(seen)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO nodes_nodepresence AS p (node_id, last_seen_at, session_since, gateway)
            SELECT s.id, s.at, s.at, %s FROM unnest(%s::uuid[], %s::timestamptz[]) AS s(id, at)
            JOIN nodes_node n ON n.id = s.id
            WHERE n.enrolment_state = 'accepted' AND n.connection_state <> 'deleted'
            ON CONFLICT (node_id) DO UPDATE SET gateway = excluded.gateway,
                last_seen_at = greatest(p.last_seen_at, excluded.last_seen_at),
                session_since = CASE WHEN %s THEN excluded.session_since ELSE p.session_since END
            WHERE %s OR p.gateway = excluded.gateway
            RETURNING node_id
            """,
            [gateway, ids, [seen[node_id] for node_id in ids], claim, claim],
        )
        return {node_id for (node_id,) in cursor.fetchall()}


def record_vitals(vitals: Mapping[UUID, Vitals]) -> None:
    """Write what these nodes use and suffer, where it differs: one statement for all."""
    if not vitals:
        return
    ids = sorted(vitals)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE nodes_node n SET resource_usage = v.resources, conditions = v.conditions,
                revision = n.revision + 1,
                -- Work that it refused for want of room may be tried again (docs/semantics.md X96).
                changed_at = CASE WHEN n.conditions @> %s::jsonb AND NOT v.conditions @> %s::jsonb
                    THEN %s ELSE n.changed_at END
            FROM unnest(%s::uuid[], %s::jsonb[], %s::jsonb[]) AS v(id, resources, conditions)
            WHERE n.id = v.id
                AND (n.resource_usage <> v.resources OR n.conditions <> v.conditions)
            RETURNING n.id, n.revision
            """,
            [
                JOURNAL_FULL,
                JOURNAL_FULL,
                timezone.now(),
                ids,
                [Jsonb(dict(vitals[node_id].resources)) for node_id in ids],
                [Jsonb(vitals[node_id].conditions) for node_id in ids],
            ],
        )
        for node_id, revision in cursor.fetchall():
            announce("node", node_id, revision)


def tick_ingest_clock(now: datetime) -> None:
    """Say that reports can be taken in now; a jump of the clock is written down as a gap (law 7).

    After a gap the grace begins anew, as after a start (docs/semantics.md X57, docs/semantics.md 1.10).
    """
    with transaction.atomic(), connection.cursor() as cursor:
        _make_clock(cursor, now)
        cursor.execute(
            "SELECT last_ok_at FROM nodes_ingestclock WHERE id = %s FOR UPDATE", [_CLOCK]
        )
        ((last_ok_at,),) = cursor.fetchall()
        if now <= last_ok_at:
            return
        is_gap = now - last_ok_at > settings.INGEST_GAP
        cursor.execute(
            "UPDATE nodes_ingestclock SET last_ok_at = %s, started_at = "
            "CASE WHEN %s THEN %s ELSE started_at END WHERE id = %s",
            [now, is_gap, now, _CLOCK],
        )
        if is_gap:
            cursor.execute(
                "INSERT INTO nodes_ingestgap (started_at, ended_at) VALUES (%s, %s)",
                [last_ok_at, now],
            )


def _make_clock(cursor: CursorWrapper, now: datetime) -> None:
    cursor.execute(
        "INSERT INTO nodes_ingestclock (id, last_ok_at, started_at) VALUES (%s, %s, %s) "
        "ON CONFLICT (id) DO NOTHING",
        [_CLOCK, now, now],
    )

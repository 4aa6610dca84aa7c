"""Runs one SQL statement over a set of rows; the statements themselves stand beside their use."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import connection


def change(sql: str, params: Sequence[Any]) -> int:
    """Run a statement that writes; return how many rows it touched."""
    with connection.cursor() as cursor:
        cursor.execute(sql, list(params))
        return int(cursor.rowcount)


def fetch(sql: str, params: Sequence[Any] | Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Run a statement and return its rows; parameters go by place or by name."""
    with connection.cursor() as cursor:
        cursor.execute(sql, params if isinstance(params, Mapping) else list(params))
        return list(cursor.fetchall())


def as_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as the text that json_to_recordset reads: one parameter for a whole set."""
    return json.dumps(rows, default=str)

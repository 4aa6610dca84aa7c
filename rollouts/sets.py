"""Runs one SQL statement over a set of rows; the statements themselves stand beside their use."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db import connection
from psycopg.types.datetime import TimestamptzLoader


def change(sql: str, params: Sequence[Any]) -> int:
    """Run a statement that writes; return how many rows it touched."""
    with connection.cursor() as cursor:
        cursor.execute(sql, list(params))
        return int(cursor.rowcount)


def fetch(sql: str, params: Sequence[Any] | Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Run a statement and return its rows; parameters go by place or by name."""
    with connection.cursor() as cursor:
        # Django's own loader of times is slower by far, and batches bring thousands of times.
        cursor.adapters.register_loader("timestamptz", TimestamptzLoader)
        cursor.execute(sql, params if isinstance(params, Mapping) else list(params))
        return list(cursor.fetchall())


def as_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as the text that json_to_recordset reads: one parameter for a whole set."""
    return json.dumps(rows, default=str)


def as_array(values: Iterable[object]) -> str:
    """Return values as the text of a PostgreSQL array: one parameter for a whole column.

    The driver would write each element by a call of its own. Dictionaries become JSON.

    >>> as_array([1, None, 'say "no"', {"a": 1}])
    '{1,NULL,"say \\\\"no\\\\"","{\\\\"a\\\\": 1}"}'
    """
    return f"{{{','.join(map(_element, values))}}}"


def _element(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, dict):
        value = json.dumps(value)
    if not isinstance(value, str):
        return str(value)
    if "\\" in value or '"' in value:
        value = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{value}"'

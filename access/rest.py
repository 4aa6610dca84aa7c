"""Lists over REST: their query parameters, and pages that neither skip nor repeat a row."""

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from django.core import signing
from django.db.models import Model, Q, QuerySet
from django.http import QueryDict

from access.problems import Refused

DEFAULT_LIMIT = 50
MAX_LIMIT = 1000
PAGING = frozenset({"limit", "next_token", "order_by", "order"})
_SALT = "jobsite.page"

_Row = TypeVar("_Row", bound=Model)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRequest:
    """Which page of a list is asked for: its size, its order, and the last row seen before it."""

    limit: int
    order_by: str
    is_descending: bool
    after: tuple[Any, Any] | None
    fingerprint: str

    def next_token(self, key: object, pk: object) -> str:
        """Return the signed token of the page behind a row with this sort key and id."""
        last = [_plain(key), _plain(pk)]
        return signing.dumps([self.fingerprint, *last], salt=_SALT, compress=True)


def read_page(
    params: QueryDict,
    *,
    filters: Collection[str] = (),
    orders: Collection[str] = ("created_at",),
    default_order: str | None = None,
    is_descending: bool = True,
) -> PageRequest:
    """Read a list's paging parameters (docs/semantics.md 4.11).

    `filters` are the other parameters that the list knows, `orders` the fields it can be sorted by.
    Raises Refused: unknown_parameter, invalid_limit, invalid_value, invalid_token, token_mismatch.
    """
    refuse_unknown(params, PAGING.union(filters))
    order_by = params.get("order_by") or default_order or next(iter(orders))
    if order_by not in orders:
        raise Refused("invalid_value", f"order_by is one of {', '.join(orders)}.")
    order = params.get("order") or ("desc" if is_descending else "asc")
    if order not in ("asc", "desc"):
        raise Refused("invalid_value", "order is asc or desc.")
    fingerprint = _fingerprint(params, order_by, order)
    return PageRequest(
        limit=_limit(params),
        order_by=order_by,
        is_descending=order == "desc",
        after=_after(params.get("next_token", ""), fingerprint),
        fingerprint=fingerprint,
    )


def refuse_unknown(params: QueryDict, known: Collection[str]) -> None:
    """Refuse a misspelt parameter rather than answer another question (docs/semantics.md X100)."""
    for name in params:
        if name not in known:
            hint = f"Known are {', '.join(sorted(known))}." if known else "None is known."
            raise Refused("unknown_parameter", f"There is no parameter {name[:64]}.", hint=hint)


def list_parameter(params: QueryDict, name: str) -> tuple[str, ...]:
    """Return a parameter's values, given with commas, by repetition or both (docs/semantics.md X100)."""
    parts = (part.strip() for text in params.getlist(name) for part in text.split(","))
    return tuple(part for part in parts if part)


def paginate(rows: QuerySet[_Row], page: PageRequest) -> tuple[list[_Row], str]:
    """Return one page of rows and the token of the next, empty at the end.

    Equal sort keys are told apart by the id, in the same direction. The sort field must not be null.
    """
    field, sign = page.order_by, "-" if page.is_descending else ""
    if page.after is not None:
        rows = rows.filter(_beyond(field, page))
    found = list(rows.order_by(f"{sign}{field}", f"{sign}pk")[: page.limit + 1])
    if len(found) <= page.limit:
        return found, ""
    found.pop()
    return found, page.next_token(getattr(found[-1], field), found[-1].pk)


def page_body(items: Sequence[object], next_token: str) -> dict[str, object]:
    """Return the body of every list: its items and the token of the next page."""
    return {"items": list(items), "next_token": next_token}


def _beyond(field: str, page: PageRequest) -> Q:
    assert page.after is not None
    key, pk = page.after
    way = "lt" if page.is_descending else "gt"
    # The first half repeats the second for the index's sake: OR alone would scan.
    bound = Q(**{f"{field}__{way}e": key})
    return bound & (Q(**{f"{field}__{way}": key}) | Q(**{field: key, f"pk__{way}": pk}))


def _limit(params: QueryDict) -> int:
    text = params.get("limit", str(DEFAULT_LIMIT))
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MAX_LIMIT):
        raise Refused("invalid_limit", f"limit is a whole number from 1 to {MAX_LIMIT}.")
    return int(text)


def _after(token: str, fingerprint: str) -> tuple[Any, Any] | None:
    if not token:
        return None
    try:
        made_for, key, pk = signing.loads(token, salt=_SALT)
    except (signing.BadSignature, ValueError, TypeError):
        raise Refused("invalid_token", "The page token is damaged or was made elsewhere.") from None
    if made_for != fingerprint:
        raise Refused(
            "token_mismatch",
            "The page token belongs to other filters or another order.",
            hint="Keep every parameter but limit and next_token the same from page to page.",
        )
    return key, pk


def _fingerprint(params: QueryDict, order_by: str, order: str) -> str:
    filters = sorted((name, sorted(params.getlist(name))) for name in params if name not in PAGING)
    text = json.dumps([order_by, order, filters])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return value if isinstance(value, (int, str)) else str(value)

"""Lists come in pages that neither skip nor repeat a row, whatever is added meanwhile."""

from itertools import chain

import pytest
from django.http import QueryDict

from access.models import AuditEntry
from access.problems import Refused
from access.rest import list_parameter, paginate, read_page
from access.services import Actor, record_audit

pytestmark = pytest.mark.django_db


def page(query="", **more):
    return read_page(QueryDict(query), filters=("actor", "state"), orders=("at", "actor"), **more)


def add(*actors):
    for actor in actors:
        record_audit(Actor(name=actor), "test")


def walk(query):
    """Follow the tokens to the end, and return the ids of each page."""
    pages, token = [], ""
    while True:
        suffix = f"&next_token={token}" if token else ""
        rows, token = paginate(AuditEntry.objects.all(), page(query + suffix))
        pages.append([row.pk for row in rows])
        if not token:
            return pages


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("field", ["at", "actor"])
def test_pages_together_are_the_list_once(order, field):
    add("b", "a", "b", "a", "c", "b", "b")
    pages = walk(f"limit=3&order_by={field}&order={order}")
    assert [len(ids) for ids in pages] == [3, 3, 1]
    sign = "-" if order == "desc" else ""
    whole = AuditEntry.objects.order_by(f"{sign}{field}", f"{sign}pk")
    assert list(chain.from_iterable(pages)) == list(whole.values_list("pk", flat=True))


def test_rows_added_meanwhile_hide_and_repeat_nothing():
    add("b", "b", "b", "b", "b")
    old = set(AuditEntry.objects.values_list("pk", flat=True))
    seen, token = [], ""
    for _ in range(3):
        rows, token = paginate(AuditEntry.objects.all(), page(f"limit=2&next_token={token}"))
        seen += [row.pk for row in rows]
        add("new")
    assert sorted(seen) == sorted(old)


def test_an_exact_last_page_ends_the_list():
    add("a", "b")
    rows, token = paginate(AuditEntry.objects.all(), page("limit=2"))
    assert (len(rows), token) == (2, "")


def refusal(query):
    with pytest.raises(Refused) as refused:
        page(query)
    return refused.value.code


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "", "1.5", "٣", "99999999999"])
def test_limits_outside_one_to_a_thousand_are_refused(limit):
    assert refusal(f"limit={limit}") == "invalid_limit"


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("stat=1", "unknown_parameter"),
        ("order_by=secret", "invalid_value"),
        ("order=sideways", "invalid_value"),
        ("next_token=x", "invalid_token"),
        ("next_token=a:b:c", "invalid_token"),
    ],
)
def test_what_is_not_understood_is_refused(query, code):
    assert refusal(query) == code


def test_a_token_belongs_to_its_filters_and_order_but_not_to_its_limit():
    add("a", "b", "c")
    _, token = paginate(AuditEntry.objects.all(), page("limit=1&actor=a&actor=b"))
    assert page(f"actor=b&actor=a&limit=2&next_token={token}").after is not None
    for other in ("actor=a", "actor=a&actor=b&order=asc", "actor=a&actor=b&order_by=actor"):
        assert refusal(f"{other}&next_token={token}") == "token_mismatch"
    assert refusal(f"actor=a&actor=b&next_token={token[:-1]}") == "invalid_token"


def test_a_list_of_values_comes_with_commas_or_by_repetition():
    assert list_parameter(QueryDict("state=a,b&state=c,&state="), "state") == ("a", "b", "c")

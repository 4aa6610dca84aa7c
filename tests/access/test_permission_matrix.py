"""Every address times every role: strangers are asked to sign in, others pass by their roles."""

import re

import pytest
from django.urls import get_resolver

from access.roles import ROLE_PERMISSIONS, Role
from tests.access.doors import DOORS, OPERATION, PUBLIC, SIGNED_IN, STAFF
from tests.rollouts import fleet

pytestmark = pytest.mark.django_db
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
NOBODYS = "00000000-0000-7000-8000-000000000000"
ROLE_OF = {"ada": Role.ADMIN, "otto": Role.WRITE, "vera": Role.READ}


def walk(patterns, before=""):
    """Yield the route of every pattern; the admin's own are one door, by its own rule."""
    for pattern in patterns:
        route = before + str(pattern.pattern)
        if hasattr(pattern, "url_patterns"):
            yield from walk(pattern.url_patterns, route)
        elif not route.startswith("admin/"):
            yield route


ROUTES = sorted(set(walk(get_resolver().url_patterns)))
GUARDED = [route for route in ROUTES if route not in DOORS or DOORS[route].who != PUBLIC]


def test_every_address_has_a_row_and_every_row_an_address():
    assert sorted(DOORS) == ROUTES


def filled(route):
    """Return the address of a row that does not exist."""
    return "/" + re.sub(r"<(?:\w+:)?\w+>", lambda found: filler(found[0]), route)


def filler(parameter):
    return "1" if parameter.startswith("<int:") else NOBODYS


@pytest.mark.parametrize("route", GUARDED)
def test_a_stranger_is_asked_to_sign_in_whatever_the_method(client, route):
    for method in METHODS:
        answer = client.generic(method, filled(route))
        if answer.status_code == 405:  # said before anything is read
            continue
        if route.startswith("api/"):
            assert answer.status_code == 401, method
        else:
            assert answer.status_code == 302, method
            assert answer["Location"].startswith("/sign-in/?next="), method


def names_a_row(route):
    """An operation's address names a target, which need not be one row."""
    return "<" in route and (route not in DOORS or DOORS[route].who != OPERATION)


@pytest.mark.parametrize("route", [route for route in GUARDED if names_a_row(route)])
def test_a_row_that_does_not_exist_is_404_for_all(page_as, rest_as, route):
    as_any = rest_as if route.startswith("api/") else page_as
    for name, expected in (("ada", (404, 405)), ("nils", (403, 404, 405))):
        caller = as_any(name)
        for method in METHODS:
            assert caller.generic(method, filled(route)).status_code in expected, (name, method)


@pytest.fixture
def examples(cast):
    """Return the id of one row of each noun in prod: a rollout under way, and what belongs to it."""
    fleet.make_nodes(2)
    rollout = fleet.start(fleet.spec_of(mark="v1"))
    execution = rollout.executions.first()
    return {
        "job": str(rollout.job_id),
        "job_name": rollout.job.name,
        "rollout": str(rollout.pk),
        "execution": str(execution.pk),
        "node": str(execution.node_id),
    }


NAMED = [route for route, door in DOORS.items() if door.address]


@pytest.mark.parametrize("name", ["ada", "otto", "vera", "nils"])
@pytest.mark.parametrize("route", NAMED)
def test_those_pass_whose_role_holds_the_permission(page_as, rest_as, examples, route, name):
    door = DOORS[route]
    as_any = rest_as if route.startswith("api/") else page_as
    answer = as_any(name).generic(door.method, "/" + door.address.format(**examples))
    if name == "nils":
        assert answer.status_code == 404
    elif door.who in ROLE_PERMISSIONS[ROLE_OF[name]]:
        assert answer.status_code not in (401, 403, 404, 405)
        assert answer.status_code < 500
    else:
        assert answer.status_code == 403


@pytest.mark.parametrize("name", ["ada", "otto", "nils", None])
def test_the_admin_pages_are_for_staff(page_as, name):
    for address in ("/admin/", "/admin/access/rolebinding/", "/admin/auth/user/add/"):
        answer = page_as(name).get(address, follow=True)
        passed = answer.status_code == 200 and not answer.redirect_chain
        assert passed is (name == "ada")


def test_all_doors_are_of_a_known_kind():
    kinds = {PUBLIC, SIGNED_IN, STAFF, OPERATION, *ROLE_PERMISSIONS[Role.ADMIN]}
    assert {door.who for door in DOORS.values()} <= kinds

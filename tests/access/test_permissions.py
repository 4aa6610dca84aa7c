"""What a person may do follows from bindings, groups, custom roles and a token's scopes."""

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from access import queries
from access.problems import Refused
from access.services import grant_role, revoke_role
from tests.factories import (
    CustomRoleFactory,
    GroupFactory,
    NamespaceFactory,
    RoleBindingFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db


def again(user):
    """Return the user as the next request would load it."""
    return User.objects.get(pk=user.pk)


@pytest.mark.parametrize(
    ("name", "permission", "namespaces"),
    [
        ("ada", "audit:read", ("lab", "prod")),
        ("ada", "job:write", ("lab", "prod")),
        ("otto", "job:write", ("prod",)),
        ("otto", "audit:read", ()),
        ("otto", "command:execute", ()),
        ("vera", "job:read", ("prod",)),
        ("vera", "job:write", ()),
        ("nils", "job:read", ()),
    ],
)
def test_the_cast_may_do_what_their_roles_say(cast, name, permission, namespaces):
    user = again(cast.named(name))
    assert queries.namespaces_for(user, permission) == namespaces
    for namespace in ("lab", "prod"):
        assert queries.may(user, permission, namespace) is (namespace in namespaces)


def test_a_stranger_and_a_suspended_admin_may_nothing(cast):
    cast.ada.is_active = False
    for user in (AnonymousUser(), cast.ada):
        assert queries.readable_namespaces(user) == ()
        assert not queries.may(user, "job:read", "prod")


@pytest.mark.parametrize("name", ["ada", "otto", "nils"])
def test_all_questions_of_one_request_cost_one_query(cast, name):
    user = again(cast.named(name))
    with CaptureQueriesContext(
        connection,
    ) as captured:
        queries.may(user, "job:read", "prod")
        queries.namespaces_for(user, "rollout:write")
        queries.readable_namespaces(user)
        queries.may_everywhere(user, "namespace:write")
    assert len(captured) == 1


def test_a_binding_without_namespace_reaches_namespaces_to_come():
    user = UserFactory()
    RoleBindingFactory(user=user, role="read", namespace=None)
    NamespaceFactory(name="tomorrow")
    assert queries.may(user, "job:read", "tomorrow")
    assert queries.may_everywhere(user, "job:read")
    assert not queries.may(user, "job:read", "there-is-none")


def test_a_group_gives_its_roles_to_its_members(cast):
    group = GroupFactory()
    RoleBindingFactory(user=None, group=group, role="write", namespace_id="lab")
    cast.nils.groups.add(group)
    assert queries.namespaces_for(again(cast.nils), "job:write") == ("lab",)


def test_a_custom_role_wins_over_the_built_in_of_its_name(cast):
    CustomRoleFactory(name="write", permissions=["job:read", "no:such"])
    otto = again(cast.otto)
    assert queries.permissions_in(otto, "prod") == {"job:read"}


def test_an_unknown_role_gives_nothing_and_shows_nothing(cast):
    RoleBindingFactory(user=cast.nils, role="emperor", namespace_id="lab")
    assert queries.readable_namespaces(again(cast.nils)) == ()


def test_roles_add_up_and_end_when_they_are_revoked(cast):
    grant_role(cast.vera, "write", "prod")
    assert queries.may(again(cast.vera), "job:write", "prod")
    assert revoke_role(cast.vera, "write", "prod")
    assert not queries.may(again(cast.vera), "job:write", "prod")
    assert queries.may(again(cast.vera), "job:read", "prod")
    assert not revoke_role(cast.vera, "write", "prod")


def test_granting_twice_is_granting_once(cast):
    first, second = (grant_role(cast.vera, "write", None) for _ in range(2))
    assert first.pk == second.pk


@pytest.mark.parametrize(
    ("role", "namespace", "code"),
    [("emperor", "prod", "invalid_value"), ("read", "nowhere", "unknown_namespace")],
)
def test_unknown_roles_and_namespaces_are_refused(cast, role, namespace, code):
    with pytest.raises(Refused) as refused:
        grant_role(cast.nils, role, namespace)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("name", "namespace", "code"),
    [
        ("vera", "prod", "forbidden"),
        ("vera", "lab", "not_found"),
        ("nils", "prod", "not_found"),
        ("otto", "nowhere", "not_found"),
    ],
)
def test_outside_ones_namespaces_nothing_is_there(cast, name, namespace, code):
    with pytest.raises(Refused) as refused:
        queries.require(again(cast.named(name)), "job:write", namespace)
    assert refused.value.code == code

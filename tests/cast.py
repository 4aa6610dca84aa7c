"""The people and namespaces of all tests, as a plugin: who they are says what they may do."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest


@dataclass(frozen=True, slots=True)
class Cast:
    """Ada administers, Otto operates prod, Vera views prod, Nils may nothing."""

    ada: Any
    otto: Any
    vera: Any
    nils: Any

    def named(self, name):
        """Return one of them by name."""
        return getattr(self, name)


# The imports wait for the fixtures: plugins are loaded before Django is ready.


@pytest.fixture
def cast(db):
    """Make the namespaces prod and lab, and the four people."""
    return make_cast()


def make_cast():
    """Store the cast, for tests that choose their own kind of database access."""
    from tests.factories import NamespaceFactory, RoleBindingFactory, UserFactory

    prod, _ = NamespaceFactory(name="prod"), NamespaceFactory(name="lab")
    people = Cast(
        ada=UserFactory(username="ada", is_superuser=True, is_staff=True),
        otto=UserFactory(username="otto"),
        vera=UserFactory(username="vera"),
        nils=UserFactory(username="nils"),
    )
    RoleBindingFactory(user=people.otto, role="write", namespace=prod)
    RoleBindingFactory(user=people.vera, role="read", namespace=prod)
    return people


@pytest.fixture
def page_as(cast):
    """Return a browser of one of the cast, signed in; without a name, of a stranger."""
    from django.test import Client

    def browser(name=None):
        client = Client()
        if name is not None:
            client.force_login(cast.named(name))
        return client

    return browser


@pytest.fixture
def rest_as(cast):
    """Return a REST client that sends a real token of one of the cast, perhaps cut down."""
    from rest_framework.test import APIClient

    from access.services import issue_token

    def rest(name=None, scopes=()):
        client = APIClient()
        if name is not None:
            _, text = issue_token(cast.named(name), "test", timedelta(days=1), scopes)
            client.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
        return client

    return rest

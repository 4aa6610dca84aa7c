"""While the database is away, everybody is told to ask again, and nobody that something broke."""

import re

import pytest
from django.contrib.auth.decorators import login_not_required
from django.db import InterfaceError, connection
from django.test import Client, override_settings
from django.urls import path
from rest_framework.response import Response
from rest_framework.views import APIView

from jobsite import urls
from jobsite.urls import handler400, handler403, handler404, handler500  # noqa: F401 - read by Django

pytestmark = pytest.mark.django_db(transaction=True)


def lose_connection():
    """PostgreSQL ends the session in the middle of a request, as it does when it restarts."""
    with connection.cursor() as cursor:
        cursor.execute("select pg_terminate_backend(pg_backend_pid())")


class Lost(APIView):
    """An API view whose connection goes away."""

    permission_classes = ()
    authentication_classes = ()

    def get(self, request):
        lose_connection()
        return Response({})


@login_not_required
def lost(request):
    lose_connection()


@login_not_required
def closed(request):
    raise InterfaceError("connection already closed")


urlpatterns = [
    path("api/v1/lost/", Lost.as_view()),
    path("api/v1/plainly/lost/", lost),
    path("page/lost/", lost),
    path("page/closed/", closed),
    *urls.urlpatterns,
]


@pytest.fixture
def client():
    with override_settings(ROOT_URLCONF=__name__):
        yield Client(raise_request_exception=False)
    connection.close()


@pytest.mark.parametrize("address", ["/api/v1/lost/", "/api/v1/plainly/lost/"])
def test_a_machine_gets_503_and_when_to_ask_again(client, address):
    answer = client.get(address)
    assert (answer.status_code, answer["Retry-After"]) == (503, "2")
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "unavailable"


@pytest.mark.parametrize("address", ["/page/lost/", "/page/closed/"])
def test_a_person_gets_a_page_that_says_so(client, address):
    answer = client.get(address)
    assert (answer.status_code, answer["Retry-After"]) == (503, "2")
    text = re.sub(r"\s+", " ", answer.content.decode())
    assert "The database does not answer at this moment" in text

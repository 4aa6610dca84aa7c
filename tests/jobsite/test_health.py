"""The two addresses for probes, with real servers and real outages."""

import json

import pytest
from django.db import connection

from jobsite import health

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def forget():
    """The good news about migrations is remembered for the life of a process."""
    health._ask_migrations.cache_clear()
    yield
    health._ask_migrations.cache_clear()


def ask(view, rf, method="get"):
    answer = view(getattr(rf, method)("/"))
    return answer.status_code, json.loads(answer.content or "{}")


def test_a_living_process_says_so_without_a_database(rf, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert ask(health.livez, rf) == (200, {"status": "ok"})


def test_ready_means_database_tables_and_valkey(rf):
    checks = {"database": "ok", "migrations": "ok", "redis": "ok"}
    assert ask(health.readyz, rf) == (200, {"status": "ok", "checks": checks})


def test_a_table_change_that_is_not_applied_is_not_ready(rf):
    with connection.cursor() as cursor:
        cursor.execute("delete from django_migrations where app = 'contenttypes'")
    status, body = ask(health.readyz, rf)
    assert (status, body["status"], body["checks"]["migrations"]) == (503, "unavailable", "pending")


def test_without_valkey_it_serves_and_says_degraded(rf, settings, tmp_path):
    settings.REDIS_URL = f"unix://{tmp_path}/nobody.sock?db=0"
    status, body = ask(health.readyz, rf)
    assert (status, body["status"], body["checks"]["redis"]) == (200, "degraded", "unavailable")


def test_without_the_database_it_does_not_serve_and_keeps_the_reason_inside(rf):
    with connection.cursor() as cursor:
        cursor.execute("set statement_timeout = 1; select 1")
        with pytest.raises(Exception, match="statement timeout"):
            cursor.execute("select pg_sleep(1)")
    status, body = ask(health.readyz, rf)
    checks = {"database": "unavailable", "migrations": "unknown", "redis": "ok"}
    assert (status, body) == (503, {"status": "unavailable", "checks": checks})


@pytest.mark.parametrize("view", [health.livez, health.readyz])
def test_a_probe_is_read_only_and_never_cached(rf, view):
    assert ask(view, rf, "post")[0] == 405
    assert "no-store" in view(rf.get("/"))["Cache-Control"]

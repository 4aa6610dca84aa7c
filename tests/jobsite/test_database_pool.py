"""PostgreSQL's restart holds nobody up for longer than it takes."""

import time

import psycopg
import pytest
from django.conf import settings
from django.db import connection
from psycopg_pool import ConnectionPool
from psycopg_pool.base import AttemptWithBackoff

pytestmark = pytest.mark.django_db

CONNECTIONS = 5


@pytest.fixture
def pool():
    """A pool as every process has one, with connections that stand idle."""
    given = connection.get_connection_params()
    address = {key: given[key] for key in ("dbname", "user", "host", "port") if key in given}
    options = settings.DATABASES["default"]["OPTIONS"]["pool"] | {"min_size": CONNECTIONS}
    with ConnectionPool(
        kwargs={**address, "application_name": "pool", "autocommit": True},
        check=ConnectionPool.check_connection,
        **options,
    ) as pool:
        pool.wait(10)
        yield pool


def end_sessions(pool):
    """End every session of the pool, as a restart of the server does."""
    with psycopg.connect(**{**pool.kwargs, "application_name": "other"}) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pool'"
        )


def test_dead_connections_are_passed_over_in_a_moment(pool):
    end_sessions(pool)
    began = time.monotonic()
    with pool.connection() as found:
        found.execute("SELECT 1")
    assert time.monotonic() - began < CONNECTIONS * AttemptWithBackoff.INITIAL_DELAY + 2


def test_a_server_that_was_away_for_long_is_asked_again_at_once():
    attempt, now, delays = AttemptWithBackoff(timeout=300), 0.0, []
    while not attempt.time_to_give_up(now):
        attempt.update_delay(now)
        delays.append(attempt.delay)
        now += attempt.delay
    assert max(delays) <= 0.5

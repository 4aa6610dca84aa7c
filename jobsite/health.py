"""Two addresses for probes: is this process alive, and can it serve."""

import functools
from collections.abc import Callable

import redis
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

PROBE_SECONDS = 1.0


@login_not_required
@never_cache
@require_safe
def livez(_: HttpRequest) -> JsonResponse:
    """Answer, which is all that is asked."""
    return JsonResponse({"status": "ok"})


@login_not_required
@never_cache
@require_safe
def readyz(_: HttpRequest) -> JsonResponse:
    """Say ready (200) or unavailable (503), and how each part does.

    Without Valkey the product is slower and still right, so that alone is `degraded`, with 200.
    """
    database = _outcome(_ask_database)
    checks = {
        "database": database,
        "migrations": _outcome(_ask_migrations) if database == "ok" else "unknown",
        "redis": _outcome(_ask_redis),
    }
    serves = checks["database"] == checks["migrations"] == "ok"
    whole = "ok" if checks["redis"] == "ok" else "degraded"
    status = whole if serves else "unavailable"
    return JsonResponse({"status": status, "checks": checks}, status=200 if serves else 503)


class _NotAppliedError(RuntimeError):
    """The code knows migrations that the database has not seen."""


def _outcome(ask: Callable[[], None]) -> str:
    """Keep the reason inside: a probe's reader may be anybody."""
    try:
        ask()
    except (DatabaseError, redis.RedisError, OSError):
        return "unavailable"
    except _NotAppliedError:
        return "pending"
    return "ok"


def _ask_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("select 1")


@functools.cache
def _ask_migrations() -> None:
    """Remembered once it is true: the answer costs a look at every migration file."""
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        raise _NotAppliedError


def _ask_redis() -> None:
    with redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=PROBE_SECONDS, socket_connect_timeout=PROBE_SECONDS
    ) as client:
        client.ping()

"""PostgreSQL and Valkey of one's own: where they are, and whether Jobsite can use them."""

import os
from urllib.parse import urlsplit, urlunsplit

import psycopg
from redis import Redis
from redis.exceptions import RedisError

NAMES = ("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL")
OLDEST_POSTGRES = 18
TIMEOUT = 5


class UnusableServerError(RuntimeError):
    """A server that was named cannot be used; the message says which and why."""


def own_urls() -> dict[str, str]:
    """Return what the environment names, by the names of the settings."""
    return {name: url for name in NAMES if (url := os.environ.get(name, ""))}


def check_servers(urls: dict[str, str]) -> None:
    """Ask the servers that were named whether they can be used. Raises UnusableServerError.

    Without this the first to try would be a pool, which says only that its time ran out.
    """
    if url := urls.get("DATABASE_URL"):
        _check_database(url)
    if url := urls.get("REDIS_URL"):
        _check_doorbell(url)


def without_password(url: str) -> str:
    """Return a URL as it may be shown."""
    parts = urlsplit(url)
    _, at, host = parts.netloc.rpartition("@")
    if parts.password is None or not at:
        return url
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{host}"))


def _check_database(url: str) -> None:
    if urlsplit(url).scheme not in {"postgresql", "postgres"}:
        raise _unusable("DATABASE_URL", url, "it has to begin with postgresql://")
    try:
        with psycopg.connect(url, connect_timeout=TIMEOUT) as connection:
            version = connection.info.server_version // 10000
    except psycopg.Error as error:
        raise _unusable("DATABASE_URL", url, str(error)) from error
    if version < OLDEST_POSTGRES:
        raise _unusable(
            "DATABASE_URL", url, f"it is PostgreSQL {version}; {OLDEST_POSTGRES} or newer is needed"
        )


def _check_doorbell(url: str) -> None:
    try:
        with Redis.from_url(url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT) as server:
            server.ping()
    except (RedisError, OSError, ValueError) as error:
        raise _unusable("REDIS_URL", url, str(error)) from error


def _unusable(name: str, url: str, reason: str) -> UnusableServerError:
    return UnusableServerError(f"{name}={without_password(url)} cannot be used: {reason.strip()}")

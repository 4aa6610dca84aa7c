"""`up` with PostgreSQL and Valkey of one's own, named by their URLs."""

import signal
import subprocess
import sys

import psycopg
import pytest
from redis import Redis

from jobsite import servers
from jobsite.embedded import Stack
from jobsite.servers import UnusableServerError, check_servers, without_password
from tests.product import Product, free_port
from tests.stack import PROJECT, clean_environment, make_server_folder

WRITTEN = "not%3Afor%40eyes"


@pytest.fixture(scope="module")
def own():
    """Servers that somebody else runs, and their URLs with a password."""
    stack = Stack(PROJECT, make_server_folder() / "own", without_durability=True)
    stack.start()
    plain = stack.urls["DATABASE_URL"]
    yield {
        "DATABASE_URL": plain.replace("postgres@", f"postgres:{WRITTEN}@"),
        "REDIS_URL": stack.urls["REDIS_URL"],
    }
    stack.stop()


@pytest.mark.e2e
def test_up_runs_on_them_starts_none_and_leaves_them_running(own):
    with Product(agents=1, **own) as product:
        assert product.get("/readyz")[1]["checks"]["database"] == "ok"
        assert product.child("postgres") is None
        assert product.child("valkey") is None
        # The command that `up` prints, in a terminal that does not know the URLs.
        elsewhere = clean_environment(DATA=product.data)
        for command in (["create_token", "--user", "admin", "--name", "cli"], ["stack", "status"]):
            said = subprocess.run(
                [sys.executable, "manage.py", *command],
                cwd=PROJECT,
                env=elsewhere,
                capture_output=True,
                text=True,
                check=False,
            )
            assert said.returncode == 0, said.stderr
        assert "DATABASE_URL=postgresql://postgres:***@/app?host=" in said.stdout
        assert WRITTEN not in said.stdout + product.said
        assert product.stop(signal.SIGINT) == 0
    check_servers(own)


def test_servers_that_answer_are_taken(own):
    check_servers(own)
    with psycopg.connect(own["DATABASE_URL"]) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    with Redis.from_url(own["REDIS_URL"]) as server:
        assert server.ping()


@pytest.mark.parametrize(
    ("name", "url", "reason"),
    [
        ("DATABASE_URL", "postgresql://me:secret@127.0.0.1:1/app", "Connection refused"),
        ("DATABASE_URL", "sqlite:////tmp/app.db", "it has to begin with postgresql://"),
        ("REDIS_URL", "redis://:secret@127.0.0.1:1/0", "Connection refused"),
        ("REDIS_URL", "http://127.0.0.1:1", "must specify one of the following schemes"),
    ],
)
def test_a_server_that_cannot_be_used_is_told_with_its_reason_and_no_password(name, url, reason):
    with pytest.raises(UnusableServerError) as refusal:
        check_servers({name: url})
    said = str(refusal.value)
    assert said.startswith(f"{name}=")
    assert reason in said
    assert "secret" not in said


def test_a_database_that_does_not_exist_is_told(own):
    with pytest.raises(UnusableServerError, match='database "none" does not exist'):
        check_servers({"DATABASE_URL": own["DATABASE_URL"].replace("/app?", "/none?")})


def test_an_older_postgresql_is_told(own, monkeypatch):
    monkeypatch.setattr(servers, "OLDEST_POSTGRES", 99)
    with pytest.raises(UnusableServerError, match="; 99 or newer is needed"):
        check_servers(own)


def test_up_tells_it_before_anything_starts(server_folder):
    refused = subprocess.run(
        [sys.executable, "manage.py", "up"],
        cwd=PROJECT,
        env=clean_environment(
            PORT=free_port(),
            DATA=server_folder / "var",
            DATABASE_URL="postgresql://me:secret@127.0.0.1:1/app",
        ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert "DATABASE_URL=postgresql://me:***@127.0.0.1:1/app cannot be used" in refused.stderr
    assert "secret" not in refused.stdout + refused.stderr
    assert not (server_folder / "var" / "valkey").exists()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:p%40ss@host:6379/0", "redis://:***@host:6379/0"),
        ("postgresql://me:p@s@host/app", "postgresql://me:***@host/app"),
        ("postgresql://me@/app?host=/run", "postgresql://me@/app?host=/run"),
        ("unix:///run/valkey.sock?db=0", "unix:///run/valkey.sock?db=0"),
    ],
)
def test_a_url_is_shown_without_its_password(url, shown):
    assert without_password(url) == shown

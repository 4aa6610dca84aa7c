"""`manage.py stack`: status, back-up and restore, and migrations one process at a time."""

import io

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from jobsite.embedded import Stack
from jobsite.instance import Instance
from jobsite.management.commands.stack import MIGRATION_LOCK, migrate_alone
from tests.stack import PROJECT


@pytest.fixture
def data(server_folder, settings, monkeypatch):
    """A data folder of its own, with no servers named by the environment."""
    monkeypatch.delenv("DATABASE_URL")
    settings.DATA = server_folder
    return server_folder


def stack(*argv):
    out = io.StringIO()
    call_command("stack", *argv, stdout=out)
    return out.getvalue()


def sql(running, statement):
    with psycopg.connect(running.urls["DATABASE_URL"], autocommit=True) as line:
        asked = line.execute(statement)
        return asked.fetchone()[0] if asked.description else None


def test_status_says_that_nothing_runs(data):
    with pytest.raises(CommandError, match=f"nothing runs on {data}"):
        stack("status")


def test_status_tells_what_was_published(data):
    instance = Instance(data)
    instance.acquire()
    try:
        instance.publish(url="http://here/", urls={"REDIS_URL": "unix:///x"})
        assert stack("status").splitlines()[1:] == ["  REDIS_URL=unix:///x"]
        assert "http://here/" in stack("status")
    finally:
        instance.release()


def test_a_back_up_can_be_made_and_restored_while_nothing_runs(data):
    with Stack(PROJECT, data) as running:
        sql(running, "create table kept as select 41 as n")
    stack("dump", str(data / "back-up"))
    with Stack(PROJECT, data) as running:
        sql(running, "update kept set n = 0")
    stack("restore", str(data / "back-up"))
    with Stack(PROJECT, data) as running:
        assert sql(running, "select n from kept") == 41
        assert "dump" in stack("dump", str(data / "second"))


def test_a_file_that_is_no_back_up_is_an_error(data):
    (data / "nonsense").write_text("nonsense")
    with Stack(PROJECT, data), pytest.raises(CommandError, match="pg_restore failed"):
        stack("restore", str(data / "nonsense"))


@pytest.mark.django_db(transaction=True)
def test_only_one_process_migrates_at_a_time():
    where = connection.get_connection_params()
    kept = {key: where[key] for key in ("host", "dbname", "user") if where.get(key)}
    with psycopg.connect(**kept, autocommit=True) as other:
        other.execute("select pg_advisory_lock(%s)", [MIGRATION_LOCK])
        with pytest.raises(CommandError, match="another process has been migrating"):
            migrate_alone(deadline=0.1)
        other.execute("select pg_advisory_unlock(%s)", [MIGRATION_LOCK])
        migrate_alone(deadline=5)
        (free,) = other.execute("select pg_try_advisory_lock(%s)", [MIGRATION_LOCK]).fetchone()
        assert free

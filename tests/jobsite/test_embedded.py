"""The embedded PostgreSQL and Valkey, for real: starts, crashes, users, folders."""

import importlib.util
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from jobsite import embedded
from jobsite.binaries import find_binaries, may_reach
from jobsite.embedded import Stack
from jobsite.instance import AlreadyRunningError, EmbeddedError, read_instance
from tests.stack import PROJECT, clean_environment
from tests.waiting import wait_until

NOBODY = pwd.getpwnam("nobody")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone else")


@pytest.fixture
def data(server_folder):
    return server_folder / "var"


@pytest.fixture
def stack(data):
    with Stack(PROJECT, data, without_durability=True) as running:
        yield running


@pytest.fixture
def launched(data):
    """Starts a Stack in a process of its own; ends what is left of it."""
    processes = []

    def launch(folder=data, python=sys.executable, **options):
        child = subprocess.Popen(
            [python, "-m", "tests.jobsite.run_stack", str(PROJECT), str(folder)],
            cwd=PROJECT,
            **{"env": clean_environment()} | options,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(child)
        told = json.loads(child.stdout.readline())
        return child, told, [psutil.Process(pid) for pid in told.pop("pids")]

    yield launch
    for child in processes:
        child.terminate()
        child.communicate(timeout=30)


def python_for_anybody():
    """A Python that any user may run, with this one's packages."""
    own = [sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"]
    found = [python for python in own if Path(python).exists() and may_reach(NOBODY, python)]
    if not found:
        pytest.skip("no Python of this version is readable for other users")
    packages = os.pathsep.join([str(PROJECT), *filter(None, sys.path)])
    return found[0], clean_environment(PYTHONDONTWRITEBYTECODE=1, PYTHONPATH=packages)


def sql(urls, statement):
    with psycopg.connect(urls["DATABASE_URL"], autocommit=True) as connection:
        asked = connection.execute(statement)
        return asked.fetchone()[0] if asked.description else None


def valkey(urls):
    return redis.Redis.from_url(urls["REDIS_URL"], decode_responses=True)


def remember(urls):
    sql(urls, "create table kept (n int)")
    sql(urls, "insert into kept values (41)")
    with valkey(urls) as client:
        client.set("kept", "41")


def test_both_servers_answer_at_their_urls(stack):
    assert sql(stack.urls, "select current_database()") == "app"
    with valkey(stack.urls) as client:
        assert client.ping()
    assert stack.urls["CELERY_BROKER_URL"].startswith("redis+socket:///")


def test_rows_and_keys_survive_a_restart(data):
    with Stack(PROJECT, data) as first:
        remember(first.urls)
    with Stack(PROJECT, data) as second:
        assert sql(second.urls, "select n from kept") == 41
        with valkey(second.urls) as client:
            assert client.get("kept") == "41"


def test_the_default_is_durable_and_has_no_port(data):
    with Stack(PROJECT, data) as running:
        settings = {
            name: sql(running.urls, f"show {name}")
            for name in (
                "fsync",
                "synchronous_commit",
                "full_page_writes",
                "listen_addresses",
                "max_connections",
                "dynamic_shared_memory_type",
                "max_parallel_workers_per_gather",
                "shared_preload_libraries",
            )
        }
        with valkey(running.urls) as client:
            options = client.config_get()
    assert settings == {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "listen_addresses": "",
        "max_connections": "200",
        "dynamic_shared_memory_type": "mmap",
        "max_parallel_workers_per_gather": "0",
        "shared_preload_libraries": "pg_stat_statements",
    }
    assert (options["port"], options["appendonly"]) == ("0", "yes")
    assert options["maxmemory-policy"] == "noeviction"
    rules = (data / "pg" / "pg_hba.conf").read_text().splitlines()
    over_tcp = [rule for rule in rules if rule.startswith("host")]
    assert over_tcp
    assert all(rule.endswith("reject") for rule in over_tcp)


def test_nothing_is_left_running_after_stop(data):
    stack = Stack(PROJECT, data, without_durability=True)
    stack.start()
    servers = [psutil.Process(child.pid) for _, child in stack._children]
    stack.stop()
    assert len(servers) == 2
    assert not any(server.is_running() for server in servers)
    assert read_instance(data) == {}


def test_servers_end_when_their_launcher_is_killed(launched):
    launcher, _, servers = launched()
    launcher.kill()
    wait_until(lambda: not any(server.is_running() for server in servers), 20)


def test_after_kill_9_of_everything_the_rows_are_there(launched, data):
    launcher, urls, servers = launched()
    remember(urls)
    launcher.kill()
    for server in servers:
        server.kill()
    with Stack(PROJECT, data, without_durability=True) as again:
        assert sql(again.urls, "select n from kept") == 41


def test_a_stale_pid_of_another_process_does_not_block_the_start(data):
    with Stack(PROJECT, data, without_durability=True) as first:
        remember(first.urls)
    stranger = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, **first.services[0].user)
    try:
        for stale in (data / "pg" / "postmaster.pid", data / "run" / ".s.PGSQL.5432.lock"):
            stale.write_text(f"{stranger.pid}\n{data}/pg\n1\n5432\n{data}/run\n\n0 0\nready\n")
            stale.chmod(0o644)
        (data / "run" / "valkey.pid").write_text(f"{stranger.pid}\n")
        with Stack(PROJECT, data, without_durability=True) as again:
            assert sql(again.urls, "select n from kept") == 41
        assert stranger.poll() is None
    finally:
        stranger.communicate()


def test_an_orphan_server_of_this_folder_is_ended_first(data):
    with Stack(PROJECT, data, without_durability=True) as first:
        remember(first.urls)
    service = first.services[0]
    log = subprocess.DEVNULL
    orphan = subprocess.Popen(
        service.argv, cwd="/", env=service.env, stdout=log, stderr=log, **service.user
    )
    wait_until(service.is_ready, 20)
    with Stack(PROJECT, data, without_durability=True) as again:
        assert orphan.wait(60) == 0
        assert sql(again.urls, "select n from kept") == 41


def test_two_folders_run_at_once(stack, server_folder):
    with Stack(PROJECT, server_folder / "other", without_durability=True) as other:
        sql(other.urls, "create table only_there ()")
        assert sql(stack.urls, "select to_regclass('only_there') is null")


def test_a_second_start_tells_what_already_runs(stack, data):
    with pytest.raises(AlreadyRunningError, match=f"already running on {data}") as refused:
        Stack(PROJECT, data).start()
    assert refused.value.info == {"pid": os.getpid(), "urls": stack.urls}
    assert sql(stack.urls, "select 1") == 1


def test_a_path_too_long_for_a_socket_moves_the_sockets_alone(data):
    deep = data.joinpath(*["a-folder-with-a-long-name"] * 4)
    with Stack(PROJECT, deep, without_durability=True) as running:
        assert sql(running.urls, "select current_setting('data_directory')") == f"{deep}/pg"
        assert running.run.parent != deep
        assert running.run.stat().st_mode & 0o077 == 0
        with valkey(running.urls) as client:
            assert client.ping()
    assert not running.run.exists()


def test_a_squatted_socket_folder_is_refused(data, server_folder, monkeypatch):
    monkeypatch.setenv("TMPDIR", "/tmp")
    deep = Stack(PROJECT, data.joinpath(*["a-folder-with-a-long-name"] * 4))
    deep.run.symlink_to(server_folder)
    try:
        with pytest.raises(EmbeddedError, match="refusing"):
            deep.start()
    finally:
        deep.run.unlink()


def test_a_cut_off_initdb_leaves_nothing_behind(data):
    data.mkdir(mode=0o711)
    (data / "pg.new").mkdir()
    (data / "pg.new" / "PG_VERSION").write_text("18\n")
    with Stack(PROJECT, data, without_durability=True) as running:
        assert sql(running.urls, "select 1") == 1
    assert not (data / "pg.new").exists()


def test_a_bogus_locale_changes_nothing(data, monkeypatch):
    monkeypatch.setenv("LANG", "xx_YY.bogus")
    monkeypatch.setenv("LC_ALL", "xx_YY.bogus")
    monkeypatch.setenv("PGHOST", "nowhere.invalid")
    with Stack(PROJECT, data, without_durability=True) as running:
        assert sql(running.urls, "select lower('ÄÖ')") == "äö"


def test_data_of_another_major_version_is_refused_with_a_way_out(data):
    with Stack(PROJECT, data, without_durability=True):
        pass
    (data / "pg" / "PG_VERSION").write_text("17\n")
    with pytest.raises(EmbeddedError, match=r"PostgreSQL 17, the server here is 18.*dump"):
        Stack(PROJECT, data).start()


def test_a_server_that_does_not_come_up_is_told_and_nothing_stays(data, monkeypatch):
    monkeypatch.setenv("JOBSITE_VALKEY_BIN", "/bin/false")
    stack = Stack(PROJECT, data, without_durability=True)
    with pytest.raises(EmbeddedError, match="a server did not come up"):
        stack.start()
    assert not (data / "pg" / "postmaster.pid").exists()
    monkeypatch.delenv("JOBSITE_VALKEY_BIN")
    with Stack(PROJECT, data, without_durability=True) as again:
        assert sql(again.urls, "select 1") == 1


def test_the_programs_can_be_named_by_the_environment(monkeypatch):
    found = find_binaries()
    monkeypatch.setenv("JOBSITE_PG_BIN", "/opt/postgres/bin")
    monkeypatch.setenv("JOBSITE_VALKEY_BIN", "/opt/valkey-server")
    named = find_binaries()
    assert found != named
    assert named.postgres == Path("/opt/postgres/bin")
    assert named.valkey == Path("/opt/valkey-server")
    with pytest.raises(EmbeddedError, match="does not run here"):
        _ = named.postgres_version


def test_a_platform_without_wheels_is_told_its_choices(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EmbeddedError, match=r"JOBSITE_PG_BIN.*DATABASE_URL"):
        find_binaries()


def test_windows_is_refused_in_words():
    script = "import sys; sys.platform = 'win32'; import runpy; runpy.run_path(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", script, str(PROJECT / "jobsite" / "embedded.py")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "on Windows" in done.stderr
    assert "Traceback" not in done.stderr


@as_root
def test_roots_servers_run_as_somebody_else(stack):
    users = {psutil.Process(child.pid).username() for _, child in stack._children}
    assert users == {"nobody"}
    assert (stack.data / "run").stat().st_mode & 0o777 == 0o700


@as_root
def test_the_owner_of_the_data_stays_its_owner(data):
    daemon = pwd.getpwnam("daemon")
    data.mkdir(mode=0o755)
    (data / "pg").mkdir(mode=0o700)
    os.chown(data / "pg", daemon.pw_uid, daemon.pw_gid)
    with Stack(PROJECT, data, without_durability=True) as running:
        assert running.user.pw_name == "daemon"
        assert sql(running.urls, "select 1") == 1


@as_root
def test_root_in_a_closed_folder_keeps_the_databases_elsewhere(server_folder, data, monkeypatch):
    library = server_folder / "lib"
    library.mkdir()
    monkeypatch.setattr(embedded, "LIBRARY", library)
    closed = server_folder / "closed"
    closed.mkdir(mode=0o700)
    with Stack(PROJECT, closed / "var", without_durability=True) as running:
        assert sql(running.urls, "select 1") == 1
        assert running.store.parent == library
        assert "cannot enter" in running.notes[0]
    assert closed.stat().st_mode & 0o777 == 0o700


@as_root
def test_programs_that_the_servers_user_cannot_read_are_copied_once(
    server_folder, data, monkeypatch
):
    found = find_binaries()
    package = found.postgres.parent.parent
    closed = server_folder / "closed"
    shutil.copytree(package, closed / package.name, symlinks=True)
    shutil.copytree(f"{package}.libs", closed / f"{package.name}.libs")
    closed.chmod(0o700)
    library = server_folder / "lib"
    monkeypatch.setattr(embedded, "LIBRARY", library)
    monkeypatch.setenv("JOBSITE_PG_BIN", str(closed / package.name / "pginstall" / "bin"))
    for _ in range(2):
        with Stack(PROJECT, data, without_durability=True) as running:
            assert sql(running.urls, "select 1") == 1
            assert library in running.binaries.postgres.parents
            assert "copied" in running.notes[0]
    assert len(list(library.iterdir())) == 1


@as_root
def test_an_ordinary_user_runs_it_as_itself(launched, data):
    data.mkdir()
    os.chown(data, NOBODY.pw_uid, NOBODY.pw_gid)
    python, env = python_for_anybody()
    options = {"env": env, "user": NOBODY.pw_uid, "group": NOBODY.pw_gid, "extra_groups": []}
    _, urls, servers = launched(data / "mine", python, **options)
    assert {server.username() for server in servers} == {"nobody"}
    assert sql(urls, "select 1") == 1


@as_root
def test_a_user_without_a_name_is_told_what_to_do(data):
    data.mkdir()
    os.chown(data, 54321, 54321)
    python, env = python_for_anybody()
    done = subprocess.run(
        [python, "-m", "tests.jobsite.run_stack", str(PROJECT), str(data / "mine")],
        cwd=PROJECT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        user=54321,
        group=54321,
        extra_groups=[],
    )
    assert done.returncode == 1
    assert "add a passwd line" in done.stderr
    assert "DATABASE_URL" in done.stderr


def test_signals_reach_the_launcher_and_end_everything(launched):
    launcher, _, servers = launched()
    launcher.send_signal(signal.SIGTERM)
    assert launcher.wait(60) == 0
    assert not any(server.is_running() for server in servers)

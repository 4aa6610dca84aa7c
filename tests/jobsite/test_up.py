"""`manage.py up` from nothing to a running product and back, with every process real."""

import shutil
import signal
import socket
import subprocess
import sys

import psutil
import psycopg
import pytest

from tests.product import Product, free_port
from tests.stack import PROJECT, clean_environment
from tests.waiting import wait_until

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def product():
    with Product(agents=2) as running:
        yield running


def up(*options, **environment):
    return subprocess.run(
        [sys.executable, "manage.py", "up", *options],
        cwd=PROJECT,
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def is_ready(product):
    return product.get("/readyz") == (
        200,
        {"status": "ok", "checks": dict.fromkeys(("database", "migrations", "redis"), "ok")},
    )


def test_it_ends_its_start_with_address_sign_in_link_and_first_command(product):
    assert is_ready(product)
    assert f"Jobsite runs:             {product.url}/\n" in product.said
    assert product.sign_in_url.startswith(f"{product.url}/sign-in/once/")
    assert "manage.py create_token --user admin --name cli)" in product.said
    assert f'curl -H "Authorization: Bearer $TOKEN" {product.url}/api/v1/jobs' in product.said


def test_all_processes_run_and_the_web_writes_its_json_log(product):
    for name in ("postgres", "valkey", "web", "worker", "beat", "edge-1", "edge-2"):
        # Another test of this file may have killed it a moment ago.
        assert wait_until(lambda name=name: product.child(name)), name
    assert (product.data / "log" / "web.jsonl").exists()
    assert (product.data / "secret_key").stat().st_mode & 0o777 == 0o600


def test_a_second_start_tells_what_already_runs(product):
    second = up(PORT=free_port(), DATA=product.data)
    assert second.returncode == 0
    assert f"already running on {product.data} (process {product.process.pid})" in second.stdout
    assert f"pages: {product.url}/" in second.stdout
    assert f"DATABASE_URL={product.urls['DATABASE_URL']}" in second.stdout


def test_status_tells_the_same(product):
    said = product.manage("stack", "status")
    assert f"runs as process {product.process.pid}: {product.url}/" in said


def test_a_back_up_brings_rows_back(product):
    def sql(statement):
        with psycopg.connect(product.urls["DATABASE_URL"], autocommit=True) as connection:
            asked = connection.execute(statement)
            return asked.fetchone()[0] if asked.description else None

    sql("create table kept as select 41 as n")
    product.manage("stack", "dump", str(product.data / "back-up"))
    sql("update kept set n = 0")
    product.manage("stack", "restore", str(product.data / "back-up"))
    assert sql("select n from kept") == 41
    sql("drop table kept")


@pytest.mark.parametrize("name", ["web", "worker", "beat", "postgres", "edge-1"])
def test_a_killed_process_comes_back(product, name):
    before = product.child(name)
    before.kill()
    wait_until(lambda: product.child(name) not in {None, before}, 20)
    wait_until(lambda: is_ready(product), 30)


def test_valkey_comes_back_even_when_its_data_is_gone(product):
    before = product.child("valkey")
    before.kill()
    shutil.rmtree(product.data / "valkey")
    wait_until(lambda: product.child("valkey") not in {None, before}, 20)
    wait_until(lambda: is_ready(product), 30)


def group_named_kept(product, code):
    said = product.manage("shell", "-c", f"from django.contrib.auth.models import Group; {code}")
    return said.splitlines()[-1:]


def test_killed_it_starts_again_at_once_and_its_end_leaves_nothing_running():
    with Product(agents=1) as product:
        group_named_kept(product, "Group.objects.create(name='kept')")
        family = psutil.Process(product.process.pid).children(recursive=True)
        product.process.kill()
        product.process.wait()
        product.start()
        wait_until(lambda: not any(child.is_running() for child in family), 40)
        assert group_named_kept(product, "print(Group.objects.get().name)") == ["kept"]
        ends_and_leaves_nothing(product, signal.SIGINT)
        product.start()
        ends_and_leaves_nothing(product, signal.SIGTERM)


def ends_and_leaves_nothing(product, signum):
    family = psutil.Process(product.process.pid).children(recursive=True)
    assert len(family) >= 6
    assert product.stop(signum) == 0
    assert [child for child in family if child.is_running()] == []
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", product.port)) != 0


def test_a_port_in_use_is_told_before_anything_starts(server_folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = up(PORT=port, DATA=server_folder / "var")
    assert refused.returncode == 2
    assert f"port {port} is in use; choose another: make up PORT=" in refused.stderr
    assert not (server_folder / "var" / "pg").exists()


@pytest.mark.parametrize("option", [("--port", "0"), ("--port", "web"), ("--agents", "-1")])
def test_wrong_usage_is_told(server_folder, option):
    refused = up(*option, DATA=server_folder / "var")
    assert refused.returncode == 2
    assert option[0] in refused.stderr


def test_a_failing_step_ends_the_run_and_shows_why(server_folder):
    refused = up(
        PORT=free_port(),
        AGENTS=0,
        DATA=server_folder / "var",
        STATICFILES_STORAGE="no.such.Storage",
    )
    assert refused.returncode == 1
    assert "ended with code 1. The last it said:" in refused.stdout
    assert "No module named 'no'" in refused.stdout
    assert "stopped, nothing is left running" in refused.stdout
    assert any((server_folder / "var" / "log").iterdir())

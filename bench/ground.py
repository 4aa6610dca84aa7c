"""Where benchmarks run: the product's own durable PostgreSQL and Valkey in a temporary folder."""

import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
if str(PROJECT) not in sys.path:
    sys.path.insert(0, str(PROJECT))


@contextlib.contextmanager
def ground():
    """Start both servers with the settings of a real run, and set Django up on them."""
    from jobsite.embedded import Stack

    folder = Path(tempfile.mkdtemp(prefix="jobsite-bench-")).resolve()
    folder.chmod(0o711)
    stack = Stack(PROJECT, folder)
    os.environ.update(stack.urls)
    os.environ.update(DATA=str(folder), SECRET_KEY="only for benchmarks", STATEMENT_TIMEOUT_MS="0")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jobsite.settings")
    stack.start()
    try:
        _set_up()
        yield stack
    finally:
        from django.db import connections

        for connection in connections.all():
            connection.close()
            if getattr(connection, "pool", None):
                connection.close_pool()
        stack.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _set_up():
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0, interactive=False)
    from access.models import Namespace

    Namespace.objects.get_or_create(name="prod")


def sql(statement, params=()):
    """Run one statement; give its rows, if it has any."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.fetchall() if cursor.description else []


def make_fleet(count):
    """Store connected, trusted, ready nodes as rows."""
    from bench.fleet import enrol

    enrol(sql, count, namespace="prod")
    sql("VACUUM ANALYZE nodes_node")


def forget_jobs():
    """Empty every table that a job fills, so that each round begins alike."""
    sql("TRUNCATE jobs_job CASCADE")
    sql("UPDATE nodes_node SET last_edge_seq_num = 0 WHERE last_edge_seq_num > 0")
    sql("VACUUM ANALYZE nodes_node")
    sql("CHECKPOINT")


def pipeline(name="shipper", *, mark="v1", **rollout):
    """Return the spec of a pipeline for every node."""
    from jobs.spec import JobSpec

    health = {"deadline": "5m", "interval": "10s", "success_threshold": 2, "failure_threshold": 3}
    if rollout.get("strategy") != "immediate":
        rollout.setdefault("health_check", health)
    return JobSpec.model_validate(
        {
            "name": name,
            "namespace": "prod",
            "type": "pipeline",
            "selector": {"match_labels": {"role": "gateway"}},
            "rollout": rollout,
            "config": {
                "input": {"generate": {"interval": "1s", "mapping": f"root.mark = {mark!r}"}},
                "output": {"drop": {}},
            },
        }
    )

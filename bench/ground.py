"""Where benchmarks run: the product's own durable PostgreSQL and Valkey in a temporary folder."""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
if str(PROJECT) not in sys.path:
    sys.path.insert(0, str(PROJECT))


def leave_on_signal():
    """End once at the first signal, so that every `finally` is reached and none is cut short."""

    def leave(signum, _frame):
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        sys.exit(128 + signum)

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, leave)


@contextlib.contextmanager
def ground():
    """Start both servers with the settings of a real run, and set Django up on them."""
    from jobsite.embedded import Stack

    leave_on_signal()
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


def forget_nodes():
    """Empty every table, for a fleet of another size."""
    sql("TRUNCATE jobs_job, nodes_node CASCADE")
    sql("CHECKPOINT")


def make_rollout(strategy="rolling", waves=3, **block):
    """Submit a pipeline for the whole fleet and bring it forward; give the job and its rollout.

    The scheduler itself opens each wave; that the nodes of all but the last became stable is
    written as a set. In the last wave three of five validate, and one of a hundred has failed.
    """
    from django.utils import timezone

    from access.services import Actor
    from jobs.services import Submission, submit_job
    from rollouts.scheduler import reconcile_job

    spec = pipeline(
        strategy=strategy, max_failed_nodes=10**9, max_failed_nodes_percent=100, **block
    )
    job = submit_job(Actor(name="bench"), Submission(spec=spec)).job
    for number in range(1, waves + 1):
        reconcile_job(job.pk)
        if number < waves:
            sql(
                "UPDATE rollouts_execution SET observed_state = 'running', stable_at = now(), "
                "deadline_at = NULL, revision = revision + 3 "
                "WHERE job_id = %s AND stable_at IS NULL",
                [job.pk],
            )
    sql(
        """
        UPDATE rollouts_execution e SET revision = revision + 2, validating_at = %(now)s,
            observed_state = CASE WHEN t.position %% 100 = 7 THEN 'failed'
                WHEN t.position %% 5 < 3 THEN 'validating' ELSE 'starting' END,
            observed_message = CASE WHEN t.position %% 100 = 7 THEN 'no route' ELSE '' END,
            error_code = CASE WHEN t.position %% 100 = 7 THEN 'unhealthy' ELSE '' END,
            window_count = CASE WHEN t.position %% 5 < 3 THEN 2 ELSE 0 END
        FROM rollouts_rollouttarget t
        WHERE t.rollout_id = e.rollout_id AND t.node_id = e.node_id AND e.job_id = %(job)s
            AND e.observed_state = 'pending'
        """,
        {"now": timezone.now(), "job": job.pk},
    )
    sql(
        """
        INSERT INTO rollouts_healthwindow (execution_id, number, started_at, ended_at, messages_in,
            messages_ok, errors, processor_errors, output_errors, process_alive, restarts,
            last_error, is_healthy, is_late, reason)
        SELECT e.id, n, now(), now(), 100, 100, 0, 0, 0, TRUE, 0, '', TRUE, FALSE, ''
        FROM rollouts_execution e, generate_series(1, 2) n
        WHERE e.job_id = %s AND e.window_count > 0
        """,
        [job.pk],
    )
    reconcile_job(job.pk)
    sql(
        "VACUUM ANALYZE rollouts_execution, rollouts_rollouttarget, rollouts_healthwindow, jobs_event"
    )
    return job, job.rollouts.select_related("version").get()

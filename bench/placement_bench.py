"""Rows 1 and 2: what planning and placing a rollout of 100,000 nodes costs beside bare INSERTs."""

import argparse
import statistics
import time

from ground import forget_jobs, forget_nodes, ground, make_fleet, pipeline, sql
from ledger import Figure, exponent, load, record, spread

REPEATS = 3
SMALLER = (100, 1_000, 10_000)


def timed(work):
    """Return the seconds that `work` takes, its commit included."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def bare_targets():
    """One INSERT … SELECT of as many target rows with the same indexes and foreign keys."""
    from django.db import transaction

    with transaction.atomic():
        sql("SELECT 1 FROM jobs_job FOR UPDATE")
        sql(
            "INSERT INTO rollouts_rollouttarget (rollout_id, node_id, position, ring, wave, state) "
            "SELECT (SELECT id FROM rollouts_rollout), n.id, row_number() OVER (ORDER BY n.id), "
            "0, 0, 'remaining' FROM nodes_node n"
        )


def bare_executions():
    """One INSERT … SELECT of as many execution rows."""
    from django.db import transaction

    with transaction.atomic():
        sql(
            """
            INSERT INTO rollouts_execution (namespace, job_id, version_id, job_version, run_hash,
                node_id, rollout_id, rollout_wave, desired_state, desired_message, desired_seq,
                delivered_seq, observed_state, observed_message, error_code, details, revision,
                attempt, restarts, healthy_streak, unhealthy_streak, window_count, released_at,
                deadline_at, deadline_cap_at, created_at, updated_at)
            SELECT 'prod', j.id, v.id, 1, v.run_hash, n.id, r.id, 0, 'running', '', 1, 0,
                'pending', '', '', '{}', 1, 1, 0, 0, 0, 0, now(), now(), now(), now(), now()
            FROM nodes_node n, jobs_job j, jobs_jobversion v, rollouts_rollout r
            """
        )


def submit(spec):
    """Store a job without looking at its nodes, as its own transaction."""
    from access.services import Actor
    from jobs.services import Submission, submit_job

    return submit_job(Actor(name="bench"), Submission(spec=spec)).job


def plan_and_place(job):
    """What the scheduler does first: freeze the nodes, set the waves, open the first one."""
    from rollouts.scheduler import reconcile_job

    reconcile_job(job.pk, trigger="job-register")


def shell(strategy):
    """A job with a rollout row and nothing else, for the bare statements."""
    from django.utils import timezone

    from rollouts.models import Rollout

    job = submit(pipeline(strategy=strategy))
    Rollout.objects.create(
        job=job,
        version=job.versions.get(),
        namespace="prod",
        rollout_type="create",
        strategy=strategy,
        started_at=timezone.now(),
    )


def measure(nodes):
    """Return seconds by what was done, each several times, one after the other in turn."""
    found = {"targets": [], "executions": [], "plan": [], "immediate": []}
    for _ in range(REPEATS):
        forget_jobs()
        shell("immediate")
        found["targets"].append(timed(bare_targets))
        found["executions"].append(timed(bare_executions))
        forget_jobs()
        job = submit(pipeline(strategy="rolling", max_parallel=1))
        found["plan"].append(timed(lambda job=job: plan_and_place(job)))
        forget_jobs()
        job = submit(pipeline(strategy="immediate"))
        found["immediate"].append(timed(lambda job=job: plan_and_place(job)))
    assert sql("SELECT count(*) FROM rollouts_execution")[0][0] == nodes
    return found


def figures(found, nodes):
    """Make the two rows of the table."""
    targets, executions, plan, immediate = (
        statistics.median(found[name]) for name in ("targets", "executions", "plan", "immediate")
    )
    both = targets + executions
    yield Figure(
        row="1",
        what=f"plan a rolling rollout of {nodes:,} nodes and place its first wave (1%)",
        goal="<= 1.5x",
        figure=f"{plan / targets:.2f}x; {spread(found['plan'])}",
        met=plan / targets <= 1.5,
        method=f"one INSERT … SELECT of the same target rows: {spread(found['targets'])}",
    )
    yield Figure(
        row="2",
        what=f"plan an immediate rollout of {nodes:,} nodes and place all its executions",
        goal="<= 2x",
        figure=f"{immediate / both:.2f}x; {spread(found['immediate'])}",
        met=immediate / both <= 2,
        method=(
            f"2 INSERT … SELECT: targets {spread(found['targets'])}, "
            f"executions {spread(found['executions'])}; ours adds an event for each execution"
        ),
    )


def growth(by_size):
    """Make the rows that say how planning and placing grow with the fleet."""
    sizes = ", ".join(f"{size:,}" for size in by_size)
    for row, name, what in (
        ("17a", "plan", "planning, with a first wave of 1%"),
        ("17b", "immediate", "planning and placing everything"),
    ):
        slope = exponent([(size, statistics.median(it[name])) for size, it in by_size.items()])
        yield Figure(
            row=row,
            what=f"growth of {what} with the nodes of the fleet",
            goal="exponent <= 1.05",
            figure=f"{slope:.2f}",
            met=slope <= 1.05,
            method=f"line through the medians of {sizes} nodes, both axes logarithmic",
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=100_000)
    nodes = parser.parse_args().nodes
    at_start = load()
    by_size = {}
    with ground():
        for size in (*(it for it in SMALLER if it < nodes), nodes):
            forget_nodes()
            make_fleet(size)
            by_size[size] = measure(size)
        record([*figures(by_size[nodes], nodes), *growth(by_size)], at_start)


if __name__ == "__main__":
    main()

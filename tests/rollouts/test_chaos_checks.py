"""Every check of a chaos run is silent on what the product did, and speaks when it is made wrong."""

import pytest
from django.db import connection

from bench.chaos.checks import CHECKS, Evidence, load_evidence, run_checks
from jobs.spec import JobSpec
from rollouts.models import Execution
from tests.rollouts import fleet

pytestmark = pytest.mark.django_db

NOBODY = "00000000-0000-0000-0000-000000000000"
# A node's id that sorts first, and the second execution: most seeds wrong one of the two.
ONE = "(SELECT id FROM rollouts_execution ORDER BY id LIMIT 1)"
TWO = "(SELECT id FROM rollouts_execution ORDER BY id DESC LIMIT 1)"
LAST_EVENT = f"""INSERT INTO jobs_event (job_id, job_seq, namespace, job_version, execution_id,
        rollout_id, kind, message, details, at)
    SELECT v.job_id, j.event_seq + 1, v.namespace, 1, {{execution}}, v.rollout_id, '{{kind}}', '',
        '{{details}}', now()
    FROM jobs_event v JOIN jobs_job j ON j.id = v.job_id WHERE v.rollout_id IS NOT NULL LIMIT 1;
    UPDATE jobs_job SET event_seq = event_seq + 1"""  # noqa: F541


def event(kind, details="{}", execution="NULL"):
    return LAST_EVENT.format(kind=kind, details=details, execution=execution)


def copy_of(table, **changed):
    """SQL that writes a second copy of some row, changed here and there."""
    with connection.cursor() as cursor:
        names = [column.name for column in connection.introspection.get_table_description(
            cursor, table)]  # fmt: skip
    values = ", ".join(changed.get(name, f'"{name}"') for name in names)
    return f"INSERT INTO {table} SELECT {values} FROM {table} ORDER BY id LIMIT 1"


def drop_unique(name):
    return f"DROP INDEX IF EXISTS {name}"


# Check -> the statements that make it wrong; each is tried alone on a clean run.
SEEDS = {
    "lost: began on a node's disk, unknown here": (
        lambda: f"INSERT INTO ev_disk VALUES ('gw', '{NOBODY}', 'begin')"
    ),
    "lost: came to its end on disk, here it did not": (
        lambda: f"UPDATE rollouts_execution SET observed_state = 'lost' WHERE id = {ONE}",
        lambda: (
            f"""UPDATE rollouts_execution SET observed_state = 'failed',
            error_code = 'agent_restarted' WHERE id = {ONE}"""
        ),
        lambda: f"UPDATE rollouts_execution SET observed_state = 'stopped' WHERE id = {ONE}",
    ),
    "lost: ended in an agent's journal, otherwise here": (
        lambda: f"UPDATE rollouts_execution SET observed_state = 'running' WHERE id = {ONE}",
        lambda: f"INSERT INTO ev_journal VALUES ('gw', '{NOBODY}', 'failed', 1)",
    ),
    "lost: reports that were never committed": lambda: "INSERT INTO ev_unsent VALUES ('gw', 2)",
    "lost: a version that was promised to a user": (
        lambda: "INSERT INTO ev_accepted SELECT id, 2 FROM jobs_job"
    ),
    "lost: a result": lambda: f"DELETE FROM rollouts_result WHERE execution_id = {ONE}",
    "lost: completed here, but its end is on no disk": (
        lambda: f"DELETE FROM ev_disk WHERE word = 'end' AND execution_id = {TWO}"
    ),
    "doubled: began or ended twice on disk": (
        lambda: "INSERT INTO ev_disk SELECT * FROM ev_disk WHERE word = 'begin'"
    ),
    "doubled: ran on a node that is not its own": lambda: "UPDATE ev_disk SET node = 'other'",
    "S1 two rollouts of a job under way": lambda: (
        drop_unique("rollout_one_active_per_job")
        + "; UPDATE rollouts_rollout SET state = 'active', completed_at = NULL; "
        + copy_of("rollouts_rollout", id="gen_random_uuid()")
    ),
    "S2 two live executions of a job on a node": lambda: (
        drop_unique("execution_one_live_per_job_and_node")
        + "; UPDATE rollouts_execution SET observed_state = 'running', desired_state = 'stopped'; "
        + copy_of("rollouts_execution", id="gen_random_uuid()")
    ),
    "S2 two wanted executions of a job on a node": lambda: (
        drop_unique("execution_one_wanted_per_job_and_node")
        + "; "
        + copy_of("rollouts_execution", id="gen_random_uuid()")
    ),
    "S3 a wave larger than it may be": (
        lambda: "UPDATE rollouts_execution SET rollout_wave = 1",
        lambda: "UPDATE rollouts_execution SET rollout_wave = 2",
    ),
    "S4 a wave opened before the one before it had settled": (
        lambda: (
            """UPDATE jobs_event SET details = details || '{"updated": 0}'
            WHERE kind = 'wave.settled'"""
        ),
        lambda: """UPDATE jobs_event SET job_seq = -job_seq WHERE kind = 'wave.opened'""",
    ),
    "S5 something after a final state": lambda: event(
        "execution.observed", '{"old_state": "completed", "new_state": "failed"}', ONE
    ),
    "S5 an event that does not begin where the one before ended": lambda: event(
        "execution.observed", '{"old_state": "running", "new_state": "completed"}', ONE
    ),
    "S5 a row that says something else than its last event": (
        lambda: f"UPDATE rollouts_execution SET observed_state = 'failed' WHERE id = {ONE}"
    ),
    "S6 a gap in a job's events": (
        lambda: "DELETE FROM jobs_event WHERE job_seq = 2",
        lambda: "UPDATE jobs_job SET event_seq = event_seq + 1",
        lambda: "UPDATE jobs_event SET job_seq = 999 WHERE job_seq = 1",
    ),
    "S6 a version without its number": lambda: "UPDATE jobs_job SET version = 2, revision = 99",
    "S7 a completed rollout with an unsettled node": (
        lambda: "UPDATE rollouts_rollouttarget SET state = 'released'"
    ),
    "S8 something placed after a rollout had ended badly": lambda: (
        event("rollout.halted") + "; " + event("execution.created", '{"wave": 3}')
    ),
    "S8 a limit was crossed, and the next wave opened": lambda: (
        event("wave.settled", '{"wave": 2, "failed": 11}')
        + "; "
        + event("wave.opened", '{"wave": 3, "size": 1}')
    ),
    "S9 a rollback of a rollback": lambda: (
        "UPDATE jobs_jobversion SET cause = 'rollback', rolled_back_from = 1, "
        "created_by = 'scheduler'"
    ),
    "S9 stable once, and forgotten": lambda: (
        event("execution.stable", execution=ONE)
        + f"; UPDATE rollouts_execution SET stable_at = NULL WHERE id = {ONE}"
    ),
    "S10 a decision made twice": lambda: (
        drop_unique("evaluation_decided_once")
        + "; "
        + copy_of("rollouts_evaluation", id="gen_random_uuid()")
    ),
    "S10 a rollout that ended, or was promoted, more than once": (
        lambda: event("rollout.completed"),
        lambda: event("rollout.started"),
    ),
    "S10 a wave without its decision": (
        lambda: "UPDATE rollouts_evaluation SET wave = wave + 7 WHERE kind = 'wave.open'"
    ),
    "S12 a count that differs from a recount": (
        lambda: "UPDATE rollouts_rollout SET updated_nodes = 1",
        lambda: "UPDATE rollouts_rollout SET failed_nodes = 1",
        lambda: "UPDATE rollouts_rollout SET total_nodes = 3",
    ),
    "S21 a rollout's tally that differs from a recount": (
        lambda: "UPDATE rollouts_rollouttally SET count = count + 1 WHERE state <> ''",
        lambda: "DELETE FROM rollouts_rollouttally WHERE state <> ''",
    ),
    "S21 a job's tally that differs from a recount": (
        lambda: "UPDATE rollouts_jobtally SET count = count + 1",
        lambda: "DELETE FROM rollouts_jobtally",
    ),
    "S12 a node counted as what it is not": (
        lambda: f"UPDATE rollouts_execution SET observed_state = 'failed' WHERE id = {ONE}",
        lambda: "UPDATE rollouts_rollouttarget SET state = 'failed'",
    ),
    "S14 due, and nobody looked": (
        lambda: "UPDATE jobs_job SET reconcile_due_at = now() - interval '11 seconds'"
    ),
    "S14 not finished in time": (
        lambda: f"UPDATE rollouts_execution SET observed_state = 'pending' WHERE id = {ONE}"
    ),
    "S14 a desired state that no agent was told of": (
        lambda: "UPDATE rollouts_execution SET desired_seq = 5"
    ),
    "S14 a rollout that did not end": (
        lambda: "UPDATE rollouts_rollout SET state = 'paused', completed_at = NULL"
    ),
    "S15 an execution of another spec than its version's": (
        lambda: "UPDATE rollouts_execution SET run_hash = 'other'",
        lambda: "UPDATE rollouts_execution SET job_version = 9",
    ),
    "S16 a node blamed for a silence that was short": lambda: event(
        "execution.observed", '{"old_state": "running", "new_state": "lost"}', ONE
    ),
    "S20 a change by a user without its audit row": (
        lambda: "UPDATE access_auditentry SET object_id = 'another'"
    ),
    "an end without its time, or a time without an end": (
        lambda: "UPDATE rollouts_execution SET finished_at = NULL",
        lambda: f"UPDATE rollouts_execution SET observed_state = 'running' WHERE id = {ONE}",
    ),
}
CASES = [
    pytest.param(name, number, id=f"{name} ({number})")
    for name, seeds in SEEDS.items()
    for number in range(len(seeds) if isinstance(seeds, tuple) else 1)
]


def script():
    return JobSpec.model_validate(
        {
            "name": "counted",
            "namespace": "prod",
            "type": "script",
            "selector": {"match_labels": {"role": "gateway"}},
            "rollout": {"strategy": "rolling", "max_parallel": 50},
            "config": {"runner": "shell", "payload": "true"},
        }
    )


@pytest.fixture
def run(cast):
    """Two waves of one node each, through services and reports, and the evidence of it."""
    fleet.make_nodes(2)
    rollout = fleet.start(script())
    evidence = Evidence()
    for _ in range(2):
        (execution,) = fleet.executions(rollout, "pending")
        fleet.take_up(execution)
        fleet.report(execution, fleet.ended(execution, exit_code=0))
        node = execution.node.name
        evidence.disk += [(node, str(execution.pk), word) for word in ("begin", "end")]
        evidence.journal.append((node, str(execution.pk), "completed", 1))
    evidence.unsent = [(execution.node.name, 0)]
    evidence.accepted = [(str(rollout.job_id), 1)]
    rollout.refresh_from_db()
    assert rollout.state == "completed"
    assert Execution.objects.filter(rollout_wave=2).count() == 1
    with connection.cursor() as cursor:
        load_evidence(cursor, evidence)
        yield cursor


def names(found):
    return {name for checks in found.values() for name in checks}


def test_nothing_is_found_in_what_the_product_did(run):
    assert run_checks(run) == {group: {} for group in CHECKS}


def test_every_check_has_a_seed_that_it_must_find():
    assert set(SEEDS) == {name for checks in CHECKS.values() for name in checks}


@pytest.mark.parametrize(("name", "number"), CASES)
def test_a_check_speaks_when_things_are_made_wrong(run, name, number):
    seeds = SEEDS[name] if isinstance(SEEDS[name], tuple) else (SEEDS[name],)
    # Without the database's own guards, which would refuse most of this.
    run.execute("SET CONSTRAINTS ALL IMMEDIATE; SET session_replication_role = replica")
    for table, constraint in (
        ("rollouts_rollout", "rollout_completed_at_when_finished"),
        ("jobs_event", "event_once_per_job_seq"),
    ):
        run.execute(f"ALTER TABLE {table} DROP CONSTRAINT {constraint}")
    run.execute(seeds[number]())
    assert name in names(run_checks(run))

"""What is kept for a time only goes when its time has passed, and nothing else does."""

from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session
from django.db import connection
from django.utils import timezone

from access.models import SignInLink, UsedNonce
from jobs.models import Event
from nodes.models import IngestGap, NodeEvent
from rollouts import retention
from rollouts.models import Evaluation, HealthWindow, LogChunk, Result, Rollout
from rollouts.retention import RULES, Rule, expire_rows
from tests.factories import UserFactory
from tests.rollouts.rows import make_execution, make_node

pytestmark = pytest.mark.django_db

NOW = timezone.now()
OLD, YOUNG = NOW - timedelta(days=31), NOW - timedelta(days=29)


@pytest.fixture
def execution():
    node, _ = make_node()
    return make_execution(node)


def add_windows(execution, *times):
    first = HealthWindow.objects.count() + 1
    HealthWindow.objects.bulk_create(
        HealthWindow(
            execution=execution, number=number, started_at=at, ended_at=at, is_healthy=True
        )
        for number, at in enumerate(times, first)
    )


def add_evaluation(execution, at, **more):
    return Evaluation.objects.create(
        job=execution.job,
        namespace="prod",
        job_type="pipeline",
        triggered_by="sweep",
        created_at=at,
        updated_at=at,
        **more,
    )


def add_rollout(execution, state):
    return Rollout.objects.create(
        job=execution.job,
        version=execution.version,
        namespace="prod",
        rollout_type="create",
        strategy="rolling",
        state=state,
        started_at=OLD,
        completed_at=None if state == "active" else OLD,
    )


def add_event(execution, number, at, **more):
    return Event.objects.create(
        job=execution.job,
        job_seq=1000 + number,
        namespace="prod",
        job_version=1,
        kind="execution.running",
        at=at,
        **more,
    )


def test_windows_and_log_lines_go_after_their_time_even_while_the_execution_runs(execution):
    add_windows(execution, OLD, OLD, YOUNG)
    for seq, at in enumerate((OLD, YOUNG), 1):
        LogChunk.objects.create(execution=execution, seq=seq, lines="x", at=at)
    assert expire_rows() == 3
    assert [row.ended_at for row in HealthWindow.objects.all()] == [YOUNG]
    assert [row.at for row in LogChunk.objects.all()] == [YOUNG]
    execution.refresh_from_db()


def test_results_stay_with_their_execution(execution):
    Result.objects.create(execution=execution, status="succeeded", completed_at=OLD)
    expire_rows()
    assert Result.objects.count() == 1


def test_an_evaluation_stays_that_placed_something_or_whose_rollout_goes_on(execution):
    idle = add_evaluation(execution, OLD)
    young = add_evaluation(execution, YOUNG)
    placing = add_evaluation(execution, OLD)
    execution.evaluation = placing
    execution.save(update_fields=["evaluation"])
    ended = add_evaluation(execution, OLD, rollout=add_rollout(execution, "completed"))
    going_on = add_evaluation(execution, OLD, rollout=add_rollout(execution, "active"))
    expire_rows()
    left = set(Evaluation.objects.values_list("pk", flat=True))
    assert {young.pk, placing.pk, going_on.pk} <= left
    assert not {idle.pk, ended.pk} & left


def test_of_old_events_those_of_executions_go_and_those_of_jobs_and_rollouts_stay(execution):
    gone = add_event(execution, 1, OLD, execution_id=execution.pk)
    stays = [
        add_event(execution, 2, OLD),
        add_event(execution, 3, YOUNG, execution_id=execution.pk),
    ]
    expire_rows()
    left = set(Event.objects.values_list("pk", flat=True))
    assert gone.pk not in left
    assert {event.pk for event in stays} <= left


def test_what_else_grows_goes(execution):
    node = execution.node
    NodeEvent.objects.all().delete()
    for at in (OLD, YOUNG):
        NodeEvent.objects.create(node=node, at=at, kind="node.connected")
        IngestGap.objects.create(started_at=at, ended_at=at)
        SignInLink.objects.create(digest=str(at), user=UserFactory(), expires_at=at)
    for key, at in (("over", NOW - timedelta(seconds=5)), ("open", NOW + timedelta(hours=1))):
        Session.objects.create(session_key=key, session_data="", expire_date=at)
    for nonce, hours in (("old", 25), ("new", 23)):
        used = UsedNonce.objects.create(public_key="k", nonce=nonce)
        UsedNonce.objects.filter(pk=used.pk).update(used_at=NOW - timedelta(hours=hours))
    expire_rows()
    assert [row.at for row in NodeEvent.objects.all()] == [YOUNG]
    assert [row.ended_at for row in IngestGap.objects.filter(ended_at__lte=YOUNG)] == [YOUNG]
    assert [row.expires_at for row in SignInLink.objects.all()] == [YOUNG]
    assert [row.session_key for row in Session.objects.all()] == ["open"]
    assert [row.nonce for row in UsedNonce.objects.all()] == ["new"]


def test_zero_days_keep_history_for_ever_and_still_end_sessions(execution, settings):
    settings.RETENTION = timedelta(0)
    add_windows(execution, OLD)
    Session.objects.create(session_key="over", session_data="", expire_date=OLD)
    expire_rows()
    assert HealthWindow.objects.count() == 1
    assert not Session.objects.exists()


def test_more_than_a_batch_goes_in_one_run_and_takes_turns(execution, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 10)
    add_windows(execution, *[OLD] * 35)
    assert expire_rows() == 35


def test_a_run_ends_at_its_budget(execution, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 10)
    add_windows(execution, *[OLD] * 35)
    assert expire_rows(budget=0.0) == 0
    assert HealthWindow.objects.count() == 35


def test_a_row_whose_clock_was_ahead_hides_none_of_those_behind_it(execution):
    add_windows(execution, NOW + timedelta(days=3650), OLD)
    assert expire_rows() == 1


def test_only_one_process_drops_at_a_time(execution):
    add_windows(execution, OLD)
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [retention.LOCK])
        assert expire_rows() == 0
        cursor.execute("SELECT pg_advisory_unlock(%s)", [retention.LOCK])
    other.close()
    assert expire_rows() == 1


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.table)
def test_the_oldest_rows_are_found_by_their_key_without_reading_the_table(rule):
    """What costs a scan of everything would cost it every minute, for nothing."""
    if rule.key != "id":
        pytest.skip("a table of few rows, whose key is random")
    with connection.cursor() as cursor:
        # The tables of a test are so small that any way of reading them would do.
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_sort = off")
        cursor.execute(f"EXPLAIN {rule.statement}", [100, OLD, 10])
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert f"Index Scan using {rule.table}_pkey on {rule.table} r" in plan
    assert " Sort " not in plan


def test_every_table_of_the_product_is_dropped_from_rewritten_or_kept_on_purpose():
    """A new table has to say how it ends."""
    kept = {
        # With the job, or for ever.
        "access_auditentry", "jobs_job", "jobs_jobversion", "rollouts_rollout", "rollouts_result",
        "rollouts_rollouttarget", "rollouts_rollouttally", "rollouts_execution",
        "rollouts_jobtally",
        # One row each of something that people or machines are, and what they wrote.
        "access_namespace", "access_customrole", "access_rolebinding", "access_signer",
        "access_epoch", "nodes_node", "nodes_nodepresence", "nodes_ingestclock", "jobs_jobdraft",
        "jobs_fileobject",
    }  # fmt: skip
    ours = {
        name
        for name in connection.introspection.table_names()
        if name.startswith(("access_", "jobs_", "nodes_", "rollouts_"))
    }
    assert ours == kept | {rule.table for rule in RULES if rule.table != "django_session"}


def test_a_rule_that_finds_nothing_costs_nothing():
    assert expire_rows([Rule(table="jobs_event", at="at")]) == 0

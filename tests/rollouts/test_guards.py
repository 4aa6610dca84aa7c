"""What the database itself refuses, whoever writes."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import F
from django.utils import timezone

from jobs.models import Event, Job, JobVersion
from rollouts.models import Evaluation, Execution, Rollout
from tests.rollouts import fleet

pytestmark = pytest.mark.django_db


@pytest.fixture
def execution(cast):
    fleet.make_nodes(1)
    fleet.start(fleet.spec_of(mark="v1"))
    return Execution.objects.get()


def refused(rows, **values):
    with pytest.raises(IntegrityError), transaction.atomic():
        rows.update(**values)


def test_stable_at_is_written_once(execution):
    rows, now = Execution.objects.filter(pk=execution.pk), timezone.now()
    rows.update(stable_at=now)
    refused(rows, stable_at=None)
    refused(rows, stable_at=now + timedelta(seconds=1))
    rows.update(stable_at=now)


@pytest.mark.parametrize("model", [Job, Rollout, Execution])
def test_a_revision_never_falls(execution, model):
    rows = model.objects.all()
    rows.update(revision=F("revision") + 1)
    refused(rows, revision=F("revision") - 1)


def test_a_version_never_falls(execution):
    rows = Job.objects.all()
    rows.update(version=2, revision=9)
    refused(rows, version=1)


@pytest.mark.parametrize(
    "change",
    [
        {"spec": {}},
        {"number": 7},
        {"spec_hash": "0" * 64},
        {"run_hash": "0" * 64},
        {"source_text": "name: another"},
        {"cause": "rollback"},
    ],
)
def test_what_a_version_is_never_changes(execution, change):
    refused(JobVersion.objects.all(), **change)
    JobVersion.objects.update(number=1)  # which it is already


@pytest.mark.parametrize(
    "change", [{"message": "nothing happened"}, {"details": {}}, {"job_seq": 99}, {"kind": "x"}]
)
def test_an_event_is_never_rewritten(execution, change):
    refused(Event.objects.all(), **change)


def test_a_job_may_be_dropped_with_its_versions_and_events(execution):
    with transaction.atomic():
        Execution.objects.all().delete()
        Evaluation.objects.all().delete()
        Rollout.objects.all().delete()
        Job.objects.all().delete()
    assert not JobVersion.objects.exists()
    assert not Event.objects.exists()


def test_a_job_has_one_active_rollout(execution):
    rollout = Rollout.objects.get()
    again = {"completed_at": None, "state": "active"}
    copy = Rollout(
        job=rollout.job,
        version=rollout.version,
        namespace=rollout.namespace,
        rollout_type="update",
        strategy="immediate",
        started_at=timezone.now(),
        **again,
    )
    with pytest.raises(IntegrityError), transaction.atomic():
        copy.save()


def test_a_node_has_one_wanted_and_one_started_execution_of_a_job(execution):
    now = timezone.now()
    same = {
        "namespace": execution.namespace,
        "job": execution.job,
        "version": execution.version,
        "job_version": 1,
        "run_hash": "x",
        "node": execution.node,
        "released_at": now,
        "created_at": now,
        "updated_at": now,
    }
    with pytest.raises(IntegrityError), transaction.atomic():
        Execution.objects.create(**same, desired_state="running")
    Execution.objects.filter(pk=execution.pk).update(observed_state="starting")
    with pytest.raises(IntegrityError), transaction.atomic():
        Execution.objects.create(**same, desired_state="stopped", observed_state="running")
    assert Execution.objects.create(**same, desired_state="stopped", observed_state="stopped")


def test_no_other_index_can_be_taken_for_that_of_a_target_by_its_key(cast):
    """While targets are written statistics are wrong: a choice of indexes must not hang on them."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
            "JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] "
            "WHERE i.indrelid = 'rollouts_rollouttarget'::regclass AND i.indpred IS NULL "
            "AND a.attname IN ('rollout_id', 'node_id') AND i.indnatts > 1"
        )
        assert cursor.fetchall() == [("target_node_once",)]

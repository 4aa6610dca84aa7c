"""The number of SQL statements does not depend on the number of nodes, jobs or rows."""

import json
import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from rollouts import scheduler
from rollouts.models import Execution
from tests.rollouts import fleet

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def namespaces(cast):
    """Every test has the namespaces prod and lab."""


def statements(work):
    """Give the statements that `work` runs, each on one line."""
    with CaptureQueriesContext(connection) as seen:
        work()
    return [" ".join(query["sql"].split()) for query in seen]


def kinds(found):
    """Give what each statement begins with: equal for equal steps."""
    return [re.sub(r"SAVEPOINT .*", "SAVEPOINT", statement)[:40] for statement in found]


def prepared(count, name, **rollout):
    """A job of `count` nodes of its own that nobody has looked at."""
    fleet.make_nodes(count, prefix=name, labels={"role": name})
    spec = fleet.spec_of(name, **rollout).model_dump(mode="json", exclude_unset=True)
    spec["selector"] = {"match_labels": {"role": name}}
    spec = fleet.JobSpec.model_validate(spec)
    return spec, fleet.submit_job(fleet.ADA, fleet.Submission(spec=spec)).job


def all_at_once(rollout, state, **columns):
    """Let every execution of the open wave arrive where its node would bring it.

    Reports have tests of their own; here they would only cost time.
    """
    Execution.objects.filter(rollout=rollout, observed_state="pending").update(
        observed_state=state, **columns
    )


def look(job):
    return lambda: scheduler.reconcile_job(job.pk)


def begun(count, name):
    """A second version under way on nodes that ran the first: its first wave is out."""
    spec, job = prepared(count, name, strategy="rolling", max_parallel=100)
    scheduler.reconcile_job(job.pk)
    all_at_once(job.rollouts.get(), "running", stable_at=job.updated_at)
    scheduler.reconcile_job(job.pk)
    spec = spec.model_dump(mode="json", exclude_unset=True)
    spec["config"]["output"] = {"drop": {}}
    spec["rollout"]["max_parallel"] = 50
    fleet.submit_job(fleet.ADA, fleet.Submission(spec=fleet.JobSpec.model_validate(spec)))
    scheduler.reconcile_job(job.pk)
    job.refresh_from_db()
    assert (job.state, job.version, job.stable_version) == ("deploying", 2, 1)
    return job, job.rollouts.get(version__number=2)


@pytest.mark.parametrize("strategy", ["immediate", "rolling", "canary"])
def test_the_first_wave_is_placed_by_one_insert_and_a_fixed_number_of_statements(strategy):
    block = {"strategy": strategy, "max_parallel": 100}
    if strategy == "canary":
        block["canary_percent"] = 100
    _, few = prepared(5, "few", **block)
    _, many = prepared(500, "many", **block)
    of_few, of_many = statements(look(few)), statements(look(many))
    assert Execution.objects.filter(job=many).count() == 500
    assert kinds(of_few) == kinds(of_many)
    assert sum("INSERT INTO rollouts_execution " in s for s in of_many) == 1
    assert sum("INSERT INTO rollouts_rollouttarget " in s for s in of_many) == 1


def test_the_next_wave_replaces_what_runs_in_a_fixed_number_of_statements():
    seen = {}
    for count in (6, 500):
        job, rollout = begun(count, f"of-{count}")
        all_at_once(rollout, "running", stable_at=job.updated_at)
        seen[count] = statements(look(job))
        assert Execution.objects.filter(rollout=rollout, rollout_wave=2).count() == count // 2
    assert kinds(seen[6]) == kinds(seen[500])
    assert sum("INSERT INTO rollouts_execution " in s for s in seen[500]) == 1


def test_halting_and_rolling_back_take_a_fixed_number_of_statements():
    seen = {}
    for count in (6, 500):
        job, rollout = begun(count, f"of-{count}")
        all_at_once(rollout, "failed", desired_state="stopped")
        seen[count] = statements(look(job))
        rollout.refresh_from_db()
        job.refresh_from_db()
        assert (rollout.state, job.version) == ("halted", 3)
    assert kinds(seen[6]) == kinds(seen[500])


def test_stopping_a_job_takes_a_fixed_number_of_statements():
    from jobs.services import stop_job

    seen = {}
    for count in (5, 500):
        job, _ = begun(count, f"of-{count}")
        stop_job(fleet.ADA, job.pk)
        seen[count] = statements(look(job))
        assert not Execution.objects.filter(job=job, desired_state="running").exists()
    assert len(seen[5]) == len(seen[500])


def test_lost_nodes_are_followed_in_a_fixed_number_of_statements():
    from jobs.models import Job
    from nodes.models import Node

    seen = {}
    for count in (6, 500):
        job, _ = begun(count, f"of-{count}")
        Node.objects.filter(labels__role=f"of-{count}").update(connection_state="lost")
        Job.objects.filter(pk=job.pk).update(nodes_changed=True)
        seen[count] = statements(look(job))
        lost = Execution.objects.filter(job=job, observed_state="lost")
        assert lost.count() == count + count // 2
    assert kinds(seen[6]) == kinds(seen[500])


LISTS = [
    "/api/v1/jobs?limit=100",
    "/api/v1/executions?limit=100",
    "/api/v1/nodes?limit=100",
    "/jobs/",
    "/nodes/",
    "/rollouts/",
    "/",
]


@pytest.mark.parametrize("address", LISTS)
def test_a_list_of_fifty_takes_as_many_statements_as_one_of_five(page_as, address):
    browser = page_as("ada")

    def grow(jobs, first):
        for number in range(first, first + jobs):
            _, job = prepared(1, f"job-{number}", strategy="immediate")
            scheduler.reconcile_job(job.pk)

    def read():
        answer = browser.get(address, follow=True)
        assert answer.status_code == 200, answer.content[:500]
        return answer

    grow(5, 0)
    read()
    few = statements(read)
    grow(45, 5)
    many = statements(read)
    assert len(many) == len(few), json.dumps(many[:60], indent=1)

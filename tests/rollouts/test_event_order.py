"""What a job's events tell, read from the first to the last: each cause before what it caused."""

import pytest

from jobs.models import Event, Job
from rollouts.models import Rollout
from rollouts.services import cancel_rollout, pause_rollout
from tests.rollouts import fleet

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def namespaces(cast):
    """Every test has the namespaces prod and lab."""


def story(job_id, version):
    """Give what is told of a version's rollout and of the job, without single executions."""
    told = Event.objects.filter(job=job_id, job_version=version).exclude(execution_id__isnull=False)
    return [(e.kind, e.message) for e in told.order_by("job_seq")]


def states(job_id):
    """Give the states through which the job went."""
    told = Event.objects.filter(job=job_id, kind="job.state").order_by("job_seq")
    return [e.details["new_state"] for e in told]


def test_a_canary_rollout_is_told_from_its_beginning_to_its_end():
    fleet.make_nodes(3)
    rollout = fleet.completed(fleet.spec_of(mark="v1"))
    assert story(rollout.job_id, 1) == [
        ("job.submitted", "version 1 (create) by ada"),
        ("rollout.started", "rollout of version 1 (create) begins: 3 nodes in 2 waves"),
        ("job.state", "Deploying version 1: 3 nodes"),
        ("wave.opened", "the canary wave takes 1 of 3 remaining nodes"),
        ("wave.settled", "wave 1: 1 node updated"),
        ("rollout.paused", "a person must promote the canary"),
        ("job.state", "The canary waits for promotion"),
        ("canary.promoted", "the canary is stable"),
        ("wave.opened", "wave 2 takes 2 of 2 remaining nodes"),
        ("job.state", "Deploying version 1: wave 2 of 2, 3 nodes"),
        ("wave.settled", "wave 2: 1 node updated"),
        ("wave.settled", "wave 2: 1 node updated"),
        ("rollout.completed", "3 of 3 nodes updated, 0 failed, 0 deferred"),
        ("job.state", "Version 1 is on 3 nodes"),
    ]


def test_a_halt_comes_before_the_rollback_and_the_rollback_begins_before_it_ends():
    fleet.make_nodes(3)
    fleet.completed(fleet.spec_of(mark="v1"))
    fleet.completed(fleet.spec_of(mark="v2"))
    third = fleet.start(fleet.spec_of(mark="v3"))
    fleet.stop_what_should(third.job_id)
    fleet.become_bad(fleet.executions(third)[0])
    fleet.settle(Rollout.objects.get(rollout_type="rollback"))
    assert story(third.job_id, 3)[-4:] == [
        ("wave.settled", "wave 1: 1 node failed"),
        ("rollout.halted", "a canary failed: any failed canary halts"),
        ("job.state", "Version 3 halted: a canary failed: any failed canary halts"),
        ("rollout.rolled_back", "return to version 2, the last whose rollout completed"),
    ]
    assert story(third.job_id, 4) == [
        ("job.submitted", "version 4 (rollback) by scheduler"),
        (
            "rollout.started",
            "rollout of version 4 (rollback) begins: all of its 3 nodes run it already",
        ),
        ("job.state", "Deploying version 4: 3 nodes"),
        ("rollout.completed", "3 of 3 nodes updated, 0 failed, 0 deferred"),
        ("job.state", "Version 4 is on 3 nodes"),
    ]
    last_of_third = Event.objects.filter(kind="rollout.rolled_back").get()
    first_of_fourth = Event.objects.filter(job_version=4).earliest("job_seq")
    assert last_of_third.job_seq < first_of_fourth.job_seq
    assert last_of_third.details["new_version"] == 4
    assert states(third.job_id)[-3:] == ["rollout_failed", "deploying", "running"]


def test_work_that_is_sent_out_at_once_is_running_after_its_rollout_began():
    fleet.make_nodes(2)
    rollout = fleet.start(fleet.script_of())
    kinds = [kind for kind, _ in story(rollout.job_id, 1)]
    assert kinds == ["job.submitted", "rollout.started", "wave.opened", "job.state"]
    assert states(rollout.job_id) == ["running"]


@pytest.mark.parametrize(
    ("act", "state"), [(pause_rollout, "rollout_paused"), (cancel_rollout, "rollout_failed")]
)
def test_work_that_is_sent_out_at_once_can_be_paused_and_cancelled(act, state):
    fleet.make_nodes(2)
    rollout = fleet.start(fleet.script_of())
    act(fleet.ADA, rollout.job_id)
    assert Job.objects.get().state == state
    assert states(rollout.job_id) == ["running", state]


def test_a_job_whose_nodes_all_left_says_that_nodes_match_again():
    nodes = fleet.make_nodes(1)
    rollout = fleet.completed(fleet.spec_of(strategy="immediate"))
    job = Job.objects.get()
    from nodes.services import change_node_labels
    from rollouts.scheduler import reconcile_job
    from rollouts.sweeps import absorb_nodes

    for role in ("else", "gateway"):
        change_node_labels(nodes[0].pk, {"role": role}, fleet.ADA)
        absorb_nodes()
        reconcile_job(job.pk)
        fleet.stop_what_should(job.pk)
    last = [message for kind, message in story(rollout.job_id, 1) if kind == "job.state"]
    assert last[-3:] == [
        "No nodes match the selector",
        "Nodes match again",
        "Version 1 is on 1 node",
    ]

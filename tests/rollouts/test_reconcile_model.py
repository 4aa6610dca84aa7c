"""Whatever people, nodes and reports do, in whatever order, the invariants of docs/semantics.md 4.14 hold."""

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from access.problems import Refused
from jobs.models import Event, Job
from jobs.services import stop_job
from nodes.models import Node
from rollouts import scheduler, services
from rollouts.models import Execution, Rollout, RolloutTarget
from tests.cast import make_cast
from tests.rollouts import fleet

NODES = 5
INDEX = st.integers(0, NODES - 1)
MARKS = st.sampled_from(["v1", "v2", "v3"])
BLOCKS = st.sampled_from(
    [
        {"strategy": "immediate"},
        {"strategy": "rolling", "max_parallel": 40},
        {"strategy": "rolling", "max_parallel": 20, "max_failed_nodes_percent": 100},
        {"strategy": "canary", "canary_count": 2, "max_parallel": 50},
        {"strategy": "canary", "canary_count": 1, "max_parallel": 50, "auto_promote": True},
    ]
)
# What must never be there, as SQL that counts it.
NEVER = {
    "two wanted executions of a job on a node": """
        SELECT count(*) FROM (SELECT 1 FROM rollouts_execution WHERE desired_state = 'running'
            GROUP BY job_id, node_id HAVING count(*) > 1) x""",
    "two live executions of a job on a node": """
        SELECT count(*) FROM (SELECT 1 FROM rollouts_execution
            WHERE observed_state IN ('starting', 'validating', 'running', 'degraded')
            GROUP BY job_id, node_id HAVING count(*) > 1) x""",
    "two active rollouts of a job": """
        SELECT count(*) FROM (SELECT 1 FROM rollouts_rollout WHERE state IN ('active', 'paused')
            GROUP BY job_id HAVING count(*) > 1) x""",
    "a wanted execution of a later wave while an earlier one is unsettled": """
        SELECT count(*) FROM rollouts_execution e JOIN rollouts_rollout r ON r.id = e.rollout_id
        JOIN rollouts_rollouttarget t ON t.rollout_id = r.id AND t.state = 'released'
        WHERE r.state IN ('active', 'paused') AND e.desired_state = 'running'
            AND e.rollout_wave > t.wave""",
    "a rollback after a rollback that the scheduler made": """
        SELECT count(*) FROM jobs_jobversion v JOIN jobs_jobversion old
            ON old.job_id = v.job_id AND old.number = v.rolled_back_from
        WHERE v.created_by = 'scheduler' AND old.cause = 'rollback'""",
    "books of a rollout that do not say what its targets say": """
        SELECT count(*) FROM (
            SELECT r.id FROM rollouts_rollout r
            JOIN rollouts_rollouttarget t ON t.rollout_id = r.id AND t.state <> 'left'
            WHERE r.state IN ('active', 'paused') GROUP BY r.id
            HAVING count(*) <> r.total_nodes
                OR count(*) FILTER (WHERE t.state = 'failed') <> r.failed_nodes
                OR count(*) FILTER (WHERE t.state IN ('updated', 'current')) <> r.updated_nodes) x""",
    "an ended rollout that completed with unsettled nodes": """
        SELECT count(*) FROM rollouts_rollout r JOIN rollouts_rollouttarget t ON t.rollout_id = r.id
        WHERE r.state = 'completed' AND t.state IN ('released', 'remaining')""",
    "a new execution that was not placed on the node of the one before": """
        SELECT count(*) FROM rollouts_execution e JOIN rollouts_execution p ON p.id = e.previous_id
        WHERE p.node_id <> e.node_id OR p.job_id <> e.job_id""",
    "events with a gap": """
        SELECT count(*) FROM jobs_job j WHERE j.event_seq <> (SELECT count(*) FROM jobs_event e
            WHERE e.job_id = j.id)""",
    "a tally that does not say what targets and executions say": """
        SELECT count(*) FROM (
            SELECT t.rollout_id, t.wave, t.state, t.ring, coalesce(e.observed_state, '') AS seen,
                count(*) AS count
            FROM rollouts_rollouttarget t LEFT JOIN rollouts_execution e
                ON e.rollout_id = t.rollout_id AND e.node_id = t.node_id
            WHERE t.state <> 'left' GROUP BY 1, 2, 3, 4, 5
        ) x FULL JOIN (SELECT * FROM rollouts_rollouttally WHERE count <> 0) kept
            USING (rollout_id, wave, state, ring, seen)
        WHERE x.count IS DISTINCT FROM kept.count""",
    "a tally that does not say what a job's executions say": """
        SELECT count(*) FROM (
            SELECT job_id, desired_state, observed_state, count(*) AS count
            FROM rollouts_execution GROUP BY 1, 2, 3
        ) x FULL JOIN (SELECT * FROM rollouts_jobtally WHERE count <> 0) kept
            USING (job_id, desired_state, observed_state)
        WHERE x.count IS DISTINCT FROM kept.count""",
    "work of a stopped job that is wanted": """
        SELECT count(*) FROM rollouts_execution e JOIN jobs_job j ON j.id = e.job_id
        WHERE j.state IN ('stopped', 'deleted') AND e.desired_state = 'running'""",
}


class Operations(RuleBasedStateMachine):
    """One job on five nodes, and everything that can happen to it."""

    def __init__(self):
        super().__init__()
        self.scope = transaction.atomic()
        self.scope.__enter__()

    def teardown(self):
        transaction.set_rollback(True)
        self.scope.__exit__(None, None, None)

    @initialize()
    def begin(self):
        make_cast()
        self.nodes = fleet.make_nodes(NODES)
        self.revisions, self.stable_at, self.widest = {}, {}, {}

    def _look(self, job):
        scheduler.reconcile_job(job.pk)

    @rule(mark=MARKS, block=BLOCKS, force=st.booleans())
    def submit(self, mark, block, force):
        spec = fleet.spec_of(mark=mark, **block)
        try:
            done = fleet.submit_job(fleet.ADA, fleet.Submission(spec=spec, force=force))
        except Refused:  # an equal spec
            return
        self._look(done.job)

    @precondition(lambda self: Job.objects.exists())
    @rule(verb=st.sampled_from(["pause", "resume", "promote", "cancel", "roll_back", "stop"]))
    def ask(self, verb):
        job = Job.objects.get()
        verbs = {
            "pause": services.pause_rollout,
            "resume": services.resume_rollout,
            "promote": services.promote_rollout,
            "cancel": services.cancel_rollout,
            "roll_back": services.roll_back,
            "stop": stop_job,
        }
        try:
            verbs[verb](fleet.ADA, job.pk)
        except Refused:
            return
        self._look(job)

    def _newest(self, index):
        return (
            Execution.objects.filter(node=self.nodes[index]).order_by("-created_at", "-id").first()
        )

    @rule(index=INDEX, good=st.sampled_from([True, True, True, False]))
    def run(self, index, good):
        execution = self._newest(index)
        if execution is None or execution.desired_state != "running":
            return
        before = execution.previous
        if before is not None and before.observed_state == "stopping":
            fleet.report(before, fleet.heard(before), fleet.in_state(before, "stopped"))
        (fleet.become_stable if good else fleet.become_bad)(execution)

    @rule(index=INDEX, word=st.sampled_from(["starting", "running", "stopped", "failed", "lost"]))
    def say(self, index, word):
        execution = self._newest(index)
        if execution is not None:
            fleet.report(execution, fleet.heard(execution), fleet.in_state(execution, word))

    @precondition(lambda self: Job.objects.exists())
    @rule()
    def stop_on_nodes(self):
        fleet.stop_what_should(Job.objects.get().pk)

    @rule(
        index=INDEX,
        change=st.sampled_from(
            [
                {"connection_state": "lost"},
                {"connection_state": "disconnected"},
                {"connection_state": "connected"},
                {"labels": {"role": "other"}},
                {"labels": {"role": "gateway"}},
                {"scheduling_state": "cordoned"},
                {"scheduling_state": "ready"},
            ]
        ),
    )
    def change_node(self, index, change):
        Node.objects.filter(pk=self.nodes[index].pk).update(**change)
        Job.objects.update(nodes_changed=True)
        for job in Job.objects.all():
            self._look(job)

    @precondition(lambda self: Job.objects.exists())
    @rule()
    def look_twice(self):
        job = Job.objects.get()
        self._look(job)
        before = list(Event.objects.values_list("kind", flat=True)), Execution.objects.count()
        self._look(job)
        assert (
            list(Event.objects.values_list("kind", flat=True)),
            Execution.objects.count(),
        ) == before

    @invariant()
    def nothing_is_there_that_must_not_be(self):
        with connection.cursor() as cursor:
            for name, sql in NEVER.items():
                cursor.execute(sql)
                assert cursor.fetchone() == (0,), name

    @invariant()
    def no_wave_is_larger_than_it_may_be(self):
        """A wave that is open stays as it is when nodes leave, so what counts is its rollout's widest."""
        if not hasattr(self, "widest"):
            return
        gated = Rollout.objects.exclude(strategy="immediate")
        for rollout in gated.filter(state__in=["active", "paused"]):
            size = max(rollout.wave_size, rollout.canary_size if rollout.current_wave < 2 else 0)
            self.widest[rollout.pk] = max(size, self.widest.get(rollout.pk, 0))
            unsettled = RolloutTarget.objects.filter(rollout=rollout, state="released").count()
            assert unsettled <= self.widest[rollout.pk]

    @invariant()
    def numbers_only_rise_and_what_was_stable_stays_so(self):
        if not hasattr(self, "revisions"):
            return
        for model in (Job, Rollout, Execution):
            for key, revision in model.objects.values_list("pk", "revision"):
                assert revision >= self.revisions.get(key, 0)
                self.revisions[key] = revision
        for key, at in Execution.objects.filter(stable_at__isnull=False).values_list(
            "pk", "stable_at"
        ):
            assert self.stable_at.setdefault(key, at) == at
        kept = Execution.objects.filter(pk__in=self.stable_at, stable_at__isnull=False).count()
        assert kept == len(self.stable_at)


@pytest.mark.django_db
def test_the_invariants_hold_whatever_happens():
    run_state_machine_as_test(
        Operations,
        settings=settings(
            max_examples=12,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

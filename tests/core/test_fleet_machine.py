"""A fleet, its people and two lagging schedulers in any order: the laws hold after every step."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from rollouts.health import HealthPolicy
from rollouts.planner import WaitUntil
from rollouts.scenario import Act, NodeScript, Scenario
from rollouts.simulator import Simulation
from rollouts.states import RolloutState
from tests.core.fleet_laws import check_books, check_limits, check_trace
from tests.core.test_simulator_rollouts import (
    NAMES,
    POLICIES,
    SCRIPTS,
    assert_on_the_stable_version,
    heal,
)

SCHEDULERS = st.integers(0, 1)


class FleetMachine(RuleBasedStateMachine):
    """Reading and committing are two rules, so plans go stale as they do between processes."""

    @initialize(
        scripts=st.lists(SCRIPTS, min_size=1, max_size=6),
        policy=POLICIES,
        one_shot=st.sampled_from([False, False, True]),
        has_rings=st.booleans(),
    )
    def start(self, scripts, policy, one_shot, has_rings):
        nodes = tuple(
            replace(script, name=name) for name, script in zip(NAMES, scripts, strict=False)
        )
        self.scenario = Scenario(
            nodes=nodes,
            policy=policy,
            health=HealthPolicy(deadline=timedelta(seconds=60)),
            one_shot=one_shot,
            has_rings=has_rings,
        )
        self.simulation = Simulation(self.scenario, automatic=False)
        self.read = {}
        self.ends = 0

    @rule(seconds=st.sampled_from([1, 5, 10, 30, 120, 400]))
    def time_passes(self, seconds):
        self.simulation.advance(seconds)

    @rule(scheduler=SCHEDULERS)
    def a_scheduler_reads(self, scheduler):
        self.read[scheduler] = self.simulation.read()

    @precondition(lambda self: self.read)
    @rule(scheduler=SCHEDULERS)
    def a_scheduler_commits_what_it_read(self, scheduler):
        decision = self.read.pop(scheduler, None)
        if decision is None:
            return
        before = len(self.simulation.events)
        is_stale = decision.revision != self.simulation.revision
        assert self.simulation.commit(decision) is not is_stale
        if is_stale:
            assert len(self.simulation.events) == before

    @rule()
    def a_scheduler_does_all_there_is_to_do(self):
        for _ in range(20):
            decision = self.simulation.read()
            assert self.simulation.commit(decision)
            if all(isinstance(action, WaitUntil) for action in decision.actions):
                break
        else:
            raise AssertionError("planning never came to rest")
        assert self.simulation.read().actions == decision.actions
        check_limits(self.simulation)

    @rule(act=st.sampled_from([Act.PAUSE, Act.RESUME, Act.PROMOTE, Act.RESUME, Act.PROMOTE]))
    def a_person_says(self, act):
        self.simulation.act(act)

    @rule(
        act=st.sampled_from([Act.DISCONNECT, Act.RECONNECT, Act.CORDON, Act.UNCORDON, Act.LEAVE]),
        node=st.sampled_from(NAMES[:6]),
    )
    def something_happens_to(self, act, node):
        self.simulation.act(act, node)

    @rule(script=SCRIPTS, name=st.sampled_from([*NAMES[:3], "edge-new"]))
    def a_node_joins(self, script: NodeScript, name):
        self.simulation.act(Act.JOIN, script=replace(script, name=name))

    @precondition(lambda self: self.simulation.now.minute % 7 == 6)
    @rule()
    def a_person_cancels(self):
        self.simulation.act(Act.CANCEL)

    @invariant()
    def the_events_tell_what_the_books_say(self):
        if hasattr(self, "simulation"):
            check_books(self.simulation)

    @invariant()
    def what_has_ended_stays_ended(self):
        if hasattr(self, "simulation"):
            ends = sum(
                event.kind in ("rollout.completed", "rollout.halted", "rollout.cancelled")
                for event in self.simulation.events
            )
            assert self.ends <= ends <= 2
            self.ends = ends

    def teardown(self):
        """Once everybody is back it ends, and it has kept the laws all along."""
        if not hasattr(self, "simulation"):
            return
        self.simulation.automatic = True
        assert heal(self.simulation) in ("", "canary.unwell")
        check_books(self.simulation)
        check_trace(self.simulation.events, self.scenario)
        if self.simulation.state is RolloutState.COMPLETED and self.simulation.spec == "old":
            assert_on_the_stable_version(self.simulation)


TestFleetMachine = FleetMachine.TestCase
TestFleetMachine.settings = settings(
    max_examples=settings().max_examples // 5, stateful_step_count=25
)

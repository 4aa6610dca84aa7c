"""A virtual fleet under the real planner and health rules: plays rollouts in milliseconds."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from jobs.states import JobState, LiveCounts, OutcomeCounts, derive_outcome, derive_state
from rollouts.fleet import Targets, VirtualNode
from rollouts.fleet_clock import NEW, OLD, START, FleetClock
from rollouts.planner import (
    Action,
    AwaitPromotion,
    Defer,
    Finish,
    Halt,
    OpenWave,
    PlaceWave,
    Policy,
    Promote,
    Resurrect,
    RollBack,
    Snapshot,
    WaitUntil,
    canary_size,
    plan,
    wave_size,
    wave_sizes,
)
from rollouts.scenario import Act, NodeScript, Scenario
from rollouts.states import (
    ObservedState,
    PauseReason,
    RolloutState,
    RolloutType,
    Strategy,
    TargetState,
)

# A rollout that has not ended by then never will: every clock has run out long before.
HORIZON = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was planned from one reading of the books, and which reading that was."""

    revision: int
    actions: tuple[Action, ...]


class Simulation(FleetClock):
    """One job's rollout, and the rollback that may follow it, on a virtual fleet.

    It keeps the books as the database does, asks the planner after every change and writes the
    same events. With `automatic` off nothing is decided until `read` and `commit` are called, as
    by a scheduler that lags behind or races another one.
    """

    def __init__(self, scenario: Scenario, *, automatic: bool = True) -> None:
        """Freeze the targets and start the rollout at `START`."""
        super().__init__(scenario)
        self.automatic = automatic
        self.job_state = JobState.PENDING
        self.pause_reason = ""
        self.promote_requested = self.canary_promoted = False
        self._steps = sorted(scenario.steps, key=lambda step: -step.at)
        self._begin(scenario.rollout_type, scenario.policy, spec=NEW, version=scenario.version)
        self._settle()

    def run(self, limit: timedelta = HORIZON) -> "Simulation":
        """Let everything happen until nothing more will; the limit is there to be missed."""
        end = START + limit
        self._settle()
        while self._fire_next(until=end):
            pass
        return self

    def advance(self, seconds: int) -> None:
        """Let this much time pass."""
        until = self.now + timedelta(seconds=seconds)
        self._settle()
        while self._fire_next(until=until):
            pass
        self.now = until

    def _fire_next(self, until: datetime) -> bool:
        step_at = START + timedelta(seconds=self._steps[-1].at) if self._steps else None
        if step_at and step_at <= until and not (self.timers and self.timers[0][0] < step_at):
            step = self._steps.pop()
            self.now = max(self.now, step_at)
            self.act(step.act, step.node, step.script)
            return True
        if not self.timers or self.timers[0][0] > until:
            return False
        self.fire()
        self._settle()
        return True

    def act(self, act: Act, node: str = "", script: NodeScript | None = None) -> bool:
        """Do one thing; return whether it was accepted (else nothing changed)."""
        done = self._person(act) if act in _BY_PERSONS else self._fate(act, node, script)
        if done:
            self.revision += 1
            self._settle()
        return done

    def _person(self, act: Act) -> bool:
        """Do what a person asks for, by the rules of docs/semantics.md X05."""
        if self.is_over:
            return False
        paused = self.state is RolloutState.PAUSED
        by_hand = paused and self.pause_reason == PauseReason.MANUAL
        if act is Act.PAUSE and not paused:
            self._pause(PauseReason.MANUAL)
        elif act is Act.RESUME and by_hand:
            self.state, self.pause_reason = RolloutState.ACTIVE, ""
            self.say("rollout.resumed")
            self._job(JobState.DEPLOYING)
        elif act is Act.PROMOTE and self._is_promotable():
            self.promote_requested = True
        elif act is Act.CANCEL:
            self._end(RolloutState.CANCELLED, "rollout.cancelled")
            self._job(JobState.ROLLOUT_FAILED)
        else:
            return False
        return True

    def _is_promotable(self) -> bool:
        snapshot = self.snapshot()
        wave = snapshot.wave
        return (
            snapshot.policy.strategy is Strategy.CANARY
            and not snapshot.canary_promoted
            and wave.unsettled == wave.stable_but_unwell == 0
            and wave.stable > 0
        )

    def _fate(self, act: Act, name: str, script: NodeScript | None) -> bool:
        """Let something happen to a node."""
        if act is Act.JOIN:
            return script is not None and self.join(script, is_active=not self.is_over)
        if act is Act.LEAVE:
            return self.leave(name)
        if act is Act.DISCONNECT:
            return self.disconnect(name)
        if act is Act.RECONNECT:
            return self.reconnect(name)
        return self.set_ready(name, ready=act is Act.UNCORDON)

    def read(self) -> Decision:
        """Plan from the books as they are now."""
        actions = () if self.is_over else plan(self.snapshot(), self.now)
        return Decision(revision=self.revision, actions=actions)

    def commit(self, decision: Decision) -> bool:
        """Carry a decision out unless something changed since it was read (law 3)."""
        if decision.revision != self.revision:
            return False
        for action in decision.actions:
            self._carry_out(action)
        return True

    def snapshot(self) -> Snapshot:
        """Return what the planner may see: counts, whatever the size of the fleet."""
        targets, policy = self.targets, self.policy
        paused = self.state is RolloutState.PAUSED
        awaiting = paused and self.pause_reason == PauseReason.AWAITING_PROMOTION
        settled = not targets.in_wave[TargetState.RELEASED]
        rings = self.scenario.has_rings and settled and targets.fit
        in_canary = targets.wave == 1 and canary_size(targets.total, policy) > 0
        return Snapshot(
            rollout_type=self.rollout_type,
            policy=policy,
            paused=paused and not awaiting,
            awaiting_promotion=awaiting,
            promote_requested=self.promote_requested,
            canary_promoted=self.canary_promoted,
            one_shot=self.scenario.one_shot,
            total_nodes=targets.total,
            updated_nodes=(
                targets.buckets[TargetState.UPDATED] + targets.buckets[TargetState.CURRENT]
            ),
            failed_nodes=targets.buckets[TargetState.FAILED],
            remaining=len(targets.queue),
            fit=targets.fit,
            fit_canary=targets.fit,
            next_ring=(
                targets.head_of_ring(wave_size(targets.total, policy.max_parallel))
                if rings
                else None
            ),
            deferred=targets.buckets[TargetState.DEFERRED],
            wave=OpenWave(
                number=targets.wave,
                size=targets.in_wave.total() - targets.in_wave[TargetState.LEFT],
                unsettled=targets.in_wave[TargetState.RELEASED],
                stable=targets.in_wave[TargetState.UPDATED],
                stable_but_unwell=(
                    targets.unwell_in_wave()
                    if in_canary and settled and not self.canary_promoted
                    else 0
                ),
                failed=targets.in_wave[TargetState.FAILED],
            ),
            canaries_failed=targets.in_wave[TargetState.FAILED] if in_canary else 0,
            total_at_failure=self.total_at_failure,
            resurrectable=len(self.revivable),
            rollback_to_version=self.scenario.rollback_to_version,
            rollback_is_identical=self.scenario.rollback_is_identical,
            next_deadline_at=self.timers[0][0] if self.timers else None,
        )

    # The scheduler.

    def _begin(self, rollout_type: RolloutType, policy: Policy, *, spec: str, version: int) -> None:
        self.rollout_type, self.policy, self.spec = rollout_type, policy, spec
        self.strategy, self.version = policy.strategy, version
        self.state, self.pause_reason = RolloutState.ACTIVE, ""
        self.promote_requested = self.canary_promoted = False
        self.total_at_failure = 0
        self.revivable = {}
        present = [n for n in self.nodes.values() if n.target is not TargetState.LEFT]
        anew = rollout_type is RolloutType.RESTART
        self.targets = Targets(present, spec=spec, anew=anew)
        total, to_change = self.targets.total, len(self.targets.queue)
        self.say(
            "rollout.started",
            type=rollout_type.value,
            strategy=policy.strategy.value,
            total_nodes=total,
            updated_nodes=total - to_change,
            total_waves=len(wave_sizes(total, to_change, policy, self._rings())),
            wave_size=wave_size(total, policy.max_parallel),
            canary_size=canary_size(total, policy),
        )
        self._job(JobState.DEPLOYING)

    def _waves_after(self, chosen: list[VirtualNode]) -> int:
        if self.policy.strategy is Strategy.IMMEDIATE:
            return 1
        taken = {node.name for node in chosen}
        rest = [node.script.ring for name, node in self.targets.queue.items() if name not in taken]
        rings = tuple(rest.count(ring) for ring in dict.fromkeys(rest))
        policy = replace(self.policy, strategy=Strategy.ROLLING)
        in_rings = rings if self.scenario.has_rings else ()
        return len(wave_sizes(self.targets.total, len(rest), policy, in_rings))

    def _rings(self) -> tuple[int, ...]:
        if not self.scenario.has_rings:
            return ()
        rings = [node.script.ring for node in self.targets.queue.values()]
        return tuple(rings.count(ring) for ring in dict.fromkeys(rings))

    def _settle(self) -> None:
        """Plan and carry out until there is nothing to do but to wait."""
        busy = self.automatic
        while busy and not self.is_over:
            decision = self.read()
            self.commit(decision)
            busy = any(not isinstance(action, WaitUntil) for action in decision.actions)

    def _carry_out(self, action: Action) -> None:
        match action:
            case PlaceWave():
                self._place(action)
            case Resurrect():
                self._resurrect()
            case Halt():
                self._end(RolloutState.HALTED, "rollout.halted", rule=action.rule, **action.facts)
                self._job(JobState.ROLLOUT_FAILED)
            case RollBack():
                self._roll_back(action)
            case AwaitPromotion():
                self._pause(PauseReason.AWAITING_PROMOTION)
            case Promote():
                self.canary_promoted, self.promote_requested = True, False
                self.state, self.pause_reason = RolloutState.ACTIVE, ""
                self.say("canary.promoted", rule=action.rule)
                self._job(JobState.DEPLOYING)
            case Defer():
                for node in tuple(self.targets.queue.values()):
                    self.defer(node)
            case Finish():
                self._finish(action)
            case _:
                assert isinstance(action, WaitUntil)

    def _place(self, action: PlaceWave) -> None:
        chosen, passed = self.targets.take(action.size)
        self.state, self.pause_reason = RolloutState.ACTIVE, ""
        self._job(JobState.DEPLOYING)
        # A node that cannot be a canary keeps its turn in a later wave (docs/semantics.md X11).
        for node in () if action.canary else passed:
            self.defer(node)
        self.targets.open(action.number)
        self.say(
            "wave.opened",
            wave=action.number,
            size=len(chosen),
            canary=action.canary,
            total_waves=action.number + self._waves_after(chosen),
        )
        for node in chosen:
            self.start_execution(node, action.number)

    def _resurrect(self) -> None:
        for node in self.revivable.values():
            node.spec = OLD
            self.say(
                "execution.resurrected",
                f"{OLD}-{node.name}",
                old_state=ObservedState.STOPPED.value,
                new_state=ObservedState.STARTING.value,
                wave=0,
                node=node.name,
            )
        self.revivable = {}

    def _roll_back(self, action: RollBack) -> None:
        version = self.version + 1
        self.say("rollout.rolled_back", to_version=action.to_version, new_version=version)
        policy = replace(self.policy, strategy=Policy().strategy)
        self._begin(RolloutType.ROLLBACK, policy, spec=OLD, version=version)

    def _finish(self, action: Finish) -> None:
        self._end(RolloutState.COMPLETED, "rollout.completed", makes_stable=action.makes_stable)
        for node in self.nodes.values():
            if node.target is TargetState.DEFERRED:
                self.come_back(node)
        self._job(JobState.DEPLOYING)
        if not self.targets.total:
            self._job(JobState.QUEUED)
        elif self.scenario.one_shot:
            buckets = self.targets.buckets
            outcome = derive_outcome(
                OutcomeCounts(
                    completed=buckets[TargetState.UPDATED] + buckets[TargetState.CURRENT],
                    failed=buckets[TargetState.FAILED],
                )
            )
            assert outcome
            self._job(outcome[0])
        else:
            self._job(JobState.RUNNING)
            self._derive()

    def _derive(self) -> None:
        """Follow how the job's wanted executions do, once its rollout has completed."""
        failed = running = degraded = lost = 0
        for node in self.nodes.values():
            run = node.execution
            failed += node.target is TargetState.FAILED and not node.spec
            running += bool(node.spec)
            if run and node.target is TargetState.UPDATED:
                degraded += run.observed is ObservedState.DEGRADED
                lost += run.observed is ObservedState.LOST
                failed += run.observed is ObservedState.FAILED
        counts = LiveCounts(
            running=max(0, running - degraded - lost), degraded=degraded, lost=lost, failed=failed
        )
        self._job(derive_state(counts))

    def _end(self, state: RolloutState, kind: str, **details: object) -> None:
        self.state, self.pause_reason = state, ""
        self.say(kind, **details)

    def _pause(self, reason: PauseReason) -> None:
        self.state, self.pause_reason = RolloutState.PAUSED, reason
        self.say("rollout.paused", reason=reason.value)
        self._job(JobState.ROLLOUT_PAUSED)

    def _job(self, new: JobState) -> None:
        if new is not self.job_state:
            self.say("job.state", old_state=self.job_state.value, new_state=new.value)
            self.job_state = new

    def come_back(self, node: VirtualNode) -> None:
        """Put a deferred node that is fit again on the list; after the end it catches up (C03)."""
        if node.target is not TargetState.DEFERRED or not (node.connected and node.ready):
            return
        if not self.is_over:
            self.targets.return_to_list(node)
            self.say("node.joined", node=node.name)
        elif self.state is RolloutState.COMPLETED:
            node.spec = self.spec


_BY_PERSONS = frozenset({Act.PAUSE, Act.RESUME, Act.PROMOTE, Act.CANCEL})

"""The node side of the simulator: a virtual clock, agents that report, nodes that come and go."""

from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import count

from rollouts.fleet import Targets, VirtualExecution, VirtualNode
from rollouts.health import (
    Clock,
    HealthPolicy,
    Verdict,
    advance,
    expire,
    hold_clock,
    is_degraded,
    is_healthy,
    let_clock_run,
    next_alarm,
    owed_windows,
    start_clock,
    weigh,
    why_unhealthy,
)
from rollouts.history import PastEvent
from rollouts.scenario import WINDOWS, NodeScript, Scenario
from rollouts.states import (
    FINISHED_ROLLOUT,
    LIVE,
    TERMINAL,
    ObservedState,
    RolloutState,
    Strategy,
    TargetState,
    may_observe,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
# What a node should run: the version of the rollout, the one before it, or nothing.
NEW, OLD, NOTHING = "new", "old", ""

_RESULTS = {
    ObservedState.COMPLETED: TargetState.UPDATED,
    ObservedState.FAILED: TargetState.FAILED,
    ObservedState.LOST: TargetState.FAILED,
    ObservedState.STOPPED: TargetState.STOPPED,
}


class FleetClock(ABC):
    """Plays the nodes of one rollout after another; every report goes into the same books."""

    def __init__(self, scenario: Scenario) -> None:
        """Set the clock to `START`; nothing runs yet."""
        self.scenario = scenario
        self.now = START
        self.events: list[PastEvent] = []
        # Raised with every change of the books, so that a stale decision can be told.
        self.revision = 0
        self.nodes = {script.name: new_node(script) for script in scenario.nodes}
        self.targets = Targets((), spec=NEW, anew=False)
        self.rollout_type = scenario.rollout_type
        self.strategy = scenario.policy.strategy
        self.spec = NEW
        self.state = RolloutState.ACTIVE
        # The total when the newest failure was counted (docs/semantics.md C08).
        self.total_at_failure = 0
        # Failed nodes with a stable execution to return to.
        self.revivable: dict[str, VirtualNode] = {}
        self.timers: list[tuple[datetime, int, int, str, str, str]] = []
        self._numbers = count(1)

    @property
    def is_over(self) -> bool:
        """Whether the rollout has ended."""
        return self.state in FINISHED_ROLLOUT

    # The clock and the event log.

    def at(self, seconds: float, kind: str, name: str = "", serial: str = "") -> None:
        """Have something happen later; an alarm comes after the reports of the same moment."""
        when = self.now + timedelta(seconds=seconds)
        rank = int(kind == "alarm")
        heappush(self.timers, (when, rank, next(self._numbers), kind, name, serial))

    def fire(self) -> None:
        """Let the next thing happen, if it still concerns anyone."""
        self.now, _, _, kind, name, serial = heappop(self.timers)
        node = self.nodes[name]
        if kind == "silence":
            self._lose(node, serial)
            return
        run = node.execution
        if run is None or run.id != serial or (run.observed in TERMINAL):
            return
        self.revision += 1
        if kind == "alarm":
            self._alarm(node, run)
        elif kind == "window":
            self._window(node, run)
        elif node.connected:
            self._report(node, run, kind)
        else:
            node.held.append(kind)

    def say(self, kind: str, execution: str = "", /, **details: object) -> None:
        """Write one event."""
        self.revision += 1
        self.events.append(
            PastEvent(
                seq=len(self.events) + 1,
                kind=kind,
                details=details,
                execution=execution,
                at=self.now,
            )
        )

    # What agents do and report.

    def start_execution(self, node: VirtualNode, wave: int) -> None:
        """Replace what runs on a released node by an execution of the rollout's version."""
        if node.spec:
            self._stop_old(node)
        node.spec = self.spec
        node.held.clear()
        clock = start_clock(self._deadline(), self.now)
        run = VirtualExecution(id=f"{next(self._numbers)}-{node.name}", wave=wave, clock=clock)
        node.execution = run
        self.targets.release(node)
        self.say("execution.created", run.id, new_state="pending", wave=wave, node=node.name)
        self._set_alarm(node, run.id, clock)
        if node.script.pickup is not None:
            self.at(node.script.pickup, "take_up", node.name, run.id)

    def _report(self, node: VirtualNode, run: VirtualExecution, kind: str) -> None:
        if kind == "take_up":
            self._observe(node, run, ObservedState.STARTING)
            self.at(node.script.start, "up", node.name, run.id)
        elif kind == "up":
            self._come_up(node, run)
        elif kind == "end" and node.script.works:
            self._observe(node, run, ObservedState.COMPLETED)
        else:
            self._observe(node, run, ObservedState.FAILED)

    def _come_up(self, node: VirtualNode, run: VirtualExecution) -> None:
        starts = node.script.starts if self.spec == NEW else node.script.starts_old
        if not starts:
            self._observe(node, run, ObservedState.FAILED)
        elif self.scenario.one_shot:
            self._observe(node, run, ObservedState.RUNNING)
            self.at(node.script.work, "end", node.name, run.id)
        elif self.scenario.health is None or self.strategy is Strategy.IMMEDIATE:
            self._become_stable(node, run)
        else:
            self._observe(node, run, ObservedState.VALIDATING)
            run.clock = start_clock(self._deadline(), self.now)
            run.heard_at = self.now
            self._set_alarm(node, run.id, run.clock)
            self.at(self._health().interval.total_seconds(), "window", node.name, run.id)

    def _window(self, node: VirtualNode, run: VirtualExecution) -> None:
        letter = node.script.window(run.windows)
        run.windows += 1
        if letter == "X":
            if node.connected:
                self._report(node, run, "exit")
            else:
                node.held.append("exit")
            return
        if node.connected:
            self._judge(node, run, letter)
        if run.observed not in TERMINAL and not (node.connected and _is_steady(node, run)):
            self.at(self._health().interval.total_seconds(), "window", node.name, run.id)

    def _judge(self, node: VirtualNode, run: VirtualExecution, letter: str) -> None:
        """Take one window, or one more interval of silence, into the streaks."""
        policy, reason, healthy = self._health(), "no_report", False
        window = WINDOWS.get(letter)
        if window is None:
            owed = owed_windows(run.heard_at or self.now, self.now, policy)
            if owed == 0:
                return
        else:
            run.heard_at = self.now
            run.restarts += window.restarts
            healthy = is_healthy(window, policy)
            reason = "" if healthy else why_unhealthy(window, policy)
        run.streaks = advance(run.streaks, healthy=healthy)
        if run.is_stable:
            self._follow(node, run)
            return
        judgement = weigh(run.streaks, policy, reason, run.restarts)
        if judgement.verdict is Verdict.STABLE:
            self._become_stable(node, run)
        elif judgement.verdict is Verdict.FAILED:
            self._observe(node, run, ObservedState.FAILED, error_code=judgement.code)

    def _follow(self, node: VirtualNode, run: VirtualExecution) -> None:
        was = run.observed is ObservedState.DEGRADED
        degraded = is_degraded(run.streaks, self._health(), was_degraded=was)
        if degraded != was:
            state = ObservedState.DEGRADED if degraded else ObservedState.RUNNING
            self._observe(node, run, state)

    def _become_stable(self, node: VirtualNode, run: VirtualExecution) -> None:
        run.is_stable = True
        run.clock = None
        self._observe(node, run, ObservedState.RUNNING, stable=True)
        self._settle_target(node, TargetState.UPDATED)

    def _observe(
        self, node: VirtualNode, run: VirtualExecution, new: ObservedState, **details: object
    ) -> None:
        old = run.observed
        assert may_observe(old, new), f"{old} to {new}"
        run.observed = new
        self.say(
            "execution.observed",
            run.id,
            old_state=old.value,
            new_state=new.value,
            wave=run.wave,
            node=node.name,
            **details,
        )
        if new in _RESULTS:
            run.clock = None
            if not run.is_stable:
                self._settle_target(node, _RESULTS[new])

    def _settle_target(self, node: VirtualNode, outcome: TargetState) -> None:
        """Count a released node as settled; a failed one runs nothing until it is brought back.

        After the end of its rollout it is neither counted nor brought back (docs/semantics.md X68).
        """
        if outcome is TargetState.FAILED:
            node.spec = NOTHING
        if self.is_over:
            return
        self.targets.move(node, outcome)
        self.say("target.settled", outcome=outcome.value, node=node.name)
        if outcome is TargetState.FAILED:
            self.total_at_failure = self.targets.total
            if node.script.has_stable:
                self.revivable[node.name] = node

    # Clocks (docs/semantics.md C02).

    def _health(self) -> HealthPolicy:
        return self.scenario.health or HealthPolicy()

    def _deadline(self) -> timedelta:
        return self._health().deadline or self.scenario.start_deadline

    def _set_alarm(self, node: VirtualNode, execution: str, clock: Clock) -> None:
        seconds = (next_alarm(clock) - self.now).total_seconds()
        self.at(seconds, "alarm", node.name, execution)

    def _alarm(self, node: VirtualNode, run: VirtualExecution) -> None:
        """Fail an execution whose clock ran out; an alarm that was set for another is nothing."""
        if run.clock and next_alarm(run.clock) <= self.now:
            verdict = expire(run.streaks, capped=self.now >= run.clock.cap_at)
            self._observe(node, run, ObservedState.FAILED, error_code=verdict.code)

    # What happens to nodes.

    def disconnect(self, name: str) -> bool:
        """Cut a node off; its work goes on, its clock does not."""
        node = self.nodes.get(name)
        if node is None or not node.connected:
            return False
        node.connected = False
        node.absences += 1
        self.targets.refit(node)
        self.at(self.scenario.lost_after.total_seconds(), "silence", name, str(node.absences))
        run = node.execution
        if run and run.clock:
            run.clock = hold_clock(run.clock, self.now)
            self._set_alarm(node, run.id, run.clock)
        return True

    def reconnect(self, name: str) -> bool:
        """Bring a node back: its reports arrive, lost work that was stable is found again."""
        node = self.nodes.get(name)
        if node is None or node.connected:
            return False
        node.connected = True
        self.targets.refit(node)
        run, held = node.execution, node.held
        node.held = []
        if run and run.observed is ObservedState.LOST and run.is_stable:
            self._observe(node, run, ObservedState.RUNNING)
            self.at(self._health().interval.total_seconds(), "window", name, run.id)
        if run and run.observed in LIVE:
            run.heard_at = self.now
            if run.clock:
                run.clock = let_clock_run(run.clock, self.now)
                self._set_alarm(node, run.id, run.clock)
            for kind in held:
                self._report(node, run, kind)
        self.come_back(node)
        return True

    def set_ready(self, name: str, *, ready: bool) -> bool:
        """Cordon a node or undo it."""
        node = self.nodes.get(name)
        if node is None or node.ready is ready:
            return False
        node.ready = ready
        self.targets.refit(node)
        self.come_back(node)
        return True

    def leave(self, name: str) -> bool:
        """Take a node out of the rollout: deleted, or it no longer matches (docs/semantics.md C08)."""
        node = self.nodes.get(name)
        if node is None or node.target is TargetState.LEFT:
            return False
        old = node.target
        self.revivable.pop(name, None)
        if node.spec:
            self._stop_old(node)
        node.spec = NOTHING
        node.execution = None
        if node.is_outside:
            node.target = TargetState.LEFT
        else:
            self.targets.leave(node)
            self.say("node.left", node=name, old_state=old.value)
        return True

    def join(self, script: NodeScript, *, is_active: bool) -> bool:
        """Let a node in: at the end of the list, or with the current version at once (C03)."""
        node = self.nodes.get(script.name)
        if node and node.target is not TargetState.LEFT:
            return False
        absences = node.absences if node else 0
        node = self.nodes[script.name] = new_node(script)
        node.absences, node.is_outside = absences, not is_active
        if is_active:
            self.targets.total += 1
            self.targets.enqueue(node)
            self.say("node.joined", node=node.name)
        else:
            node.target = TargetState.DEFERRED
            self.come_back(node)
        return True

    def defer(self, node: VirtualNode) -> None:
        """Take a node that can take no work off the list."""
        self.targets.move(node, TargetState.DEFERRED)
        self.say("node.deferred", node=node.name)

    def _lose(self, node: VirtualNode, absence: str) -> None:
        """Count the work of a node as lost when it is still away: X19 for what was not stable."""
        run = node.execution
        if node.connected or str(node.absences) != absence:
            return
        if run and run.observed in LIVE:
            self._observe(node, run, ObservedState.LOST)

    @abstractmethod
    def come_back(self, node: VirtualNode) -> None:
        """Give a deferred node that is fit again its turn, or what the job wants now."""

    def _stop_old(self, node: VirtualNode) -> None:
        run = node.execution
        execution = run.id if run else f"{node.spec}-{node.name}"
        if run and run.observed not in TERMINAL:
            run.observed = ObservedState.STOPPED
        self.say(
            "execution.stopped_by_scheduler",
            execution,
            old_state="running",
            new_state="stopped",
            wave=run.wave if run else 0,
            node=node.name,
        )


def _is_steady(node: VirtualNode, run: VirtualExecution) -> bool:
    """Say whether further windows of a stable execution would change nothing."""
    letter = node.script.steady_from(run.windows)
    if letter == "H":
        return run.is_stable and run.observed is ObservedState.RUNNING and not run.streaks.unhealthy
    return bool(letter) and run.observed is ObservedState.DEGRADED


def new_node(script: NodeScript) -> VirtualNode:
    """Make a node as its script has it at the start."""
    spec = NEW if script.is_current else OLD if script.has_stable else NOTHING
    return VirtualNode(script=script, connected=script.connected, ready=script.ready, spec=spec)

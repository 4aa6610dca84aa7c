"""Desired state in, observed state out: restarts, stops, order on a node, resurrection."""

import asyncio
import json
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from agent import keys, protocol
from agent.execution import Timing
from agent.journal import Journal
from agent.processes import boot_id
from agent.protocol import ResultReport
from agent.reports import fit
from agent.runners.base import Window
from agent.runners.script import ScriptRunner
from agent.supervisor import Runners, Supervisor
from agent.verify import Verifier
from tests.agent.nodes import await_no_process, processes_of
from tests.agent.stub import StubServer, resent

FAST = Timing(first_delay=0.01, longest_delay=0.05, healthy_after=600, grace=2)


class MeasuredScripts(ScriptRunner):
    """Runs any job's payload in a shell; a line `window` on its output reports a live window."""

    async def start(self, order, report):
        return await super().start(order, _Measuring(report))


class _Measuring:
    def __init__(self, report):
        self._report = report
        self.up = report.up

    def log(self, stream, lines):
        self._report.log(stream, lines)
        for line in lines:
            if line == "window":
                self._report.window(_window())


def _window():
    moment = datetime.fromtimestamp(0, UTC)
    return Window(
        messages_in=1,
        messages_ok=1,
        errors=0,
        processor_errors=0,
        output_errors=0,
        process_alive=True,
        restarts=0,
        cpu=0.0,
        rss=0,
        started_at=moment,
        ended_at=moment,
    )


class Node:
    """A supervisor without a session, and what it has to say."""

    def __init__(self, folder, timing=FAST):
        self.plane = StubServer()
        self.folder = folder
        self.timing = timing
        self.scripts = MeasuredScripts()
        self.open()

    def open(self):
        self.journal = Journal(self.folder, boot_id())
        self.supervisor = Supervisor(
            self.journal,
            Verifier(keys.public_key(self.plane.seed), self.plane.node_id),
            self.folder / "executions",
            name="edge-1",
            env={"SITE": "lab"},
            timing=self.timing,
            runner_of=self.runner_of,
        )
        self.supervisor.recover()

    def runner_of(self, job_type):
        return self.scripts if job_type == "pipeline" else Runners().of(job_type)

    async def close(self):
        await self.supervisor.close()
        self.journal.close()

    def assign(self, assignment):
        self.supervisor.assign(self.plane.envelope(assignment), time.time())
        return assignment

    def desire(self, execution_id, desired_seq, state="stopped"):
        self.supervisor.desire(
            protocol.Desired(
                execution_id=execution_id, desired_state=state, desired_seq=desired_seq
            )
        )

    def pipeline(self, payload, **fields):
        return self.plane.assignment(
            job_type="pipeline",
            config={"runner": "shell", "payload": payload},
            **{"execution_timeout": None, "restart_policy": "on-failure", **fields},
        )

    def frames(self, execution_id, kind):
        found = [protocol.decode(text) for _, text in self.journal.pending(0, 10_000)]
        return [
            frame
            for frame in found
            if isinstance(frame, kind) and frame.execution_id == execution_id
        ]

    def states(self, execution_id):
        return [frame.observed_state for frame in self.frames(execution_id, protocol.State)]

    async def until(self, condition, deadline=60.0):
        async with asyncio.timeout(deadline):
            while not condition():
                self.journal.changed.clear()
                await self.journal.changed.wait()

    async def until_state(self, execution_id, *states):
        await self.until(lambda: len(self.states(execution_id)) >= len(states))
        assert self.states(execution_id) == list(states)


@pytest.fixture
async def node(tmp_path):
    (tmp_path / "node").mkdir()
    made = Node(tmp_path / "node")
    yield made
    await made.close()


# --- Starting and stopping -----------------------------------------------------------------------


async def test_a_job_that_validates_says_validating_when_it_is_up(node):
    order = node.assign(node.pipeline("sleep 60", validates=True))
    await node.until_state(order.execution_id, "starting", "validating")
    other = node.assign(node.pipeline("sleep 60"))
    await node.until_state(other.execution_id, "starting", "running")


async def test_stopping_long_running_work_gives_no_result(node):
    order = node.assign(node.pipeline("sleep 60"))
    await node.until_state(order.execution_id, "starting", "running")
    node.desire(order.execution_id, 2)
    await node.until_state(order.execution_id, "starting", "running", "stopping", "stopped")
    assert node.frames(order.execution_id, ResultReport) == []
    assert [f.desired_seq for f in node.frames(order.execution_id, protocol.Ack)] == [1, 2]
    await_no_process(order.execution_id)


async def test_stopping_a_one_shot_gives_a_cancelled_result(node):
    order = node.assign(node.plane.script("sleep 60"))
    await node.until_state(order.execution_id, "starting", "running")
    node.desire(order.execution_id, 2)
    await node.until_state(order.execution_id, "starting", "running", "stopping", "stopped")
    (result,) = node.frames(order.execution_id, ResultReport)
    assert result.status == "cancelled"


async def test_an_execution_that_is_not_known_here_is_reported_as_stopped(node):
    node.desire("unknown", 4)
    assert node.states("unknown") == ["stopped"]
    assert node.frames("unknown", protocol.Ack)[0].desired_seq == 4


async def test_an_old_desired_state_changes_nothing(node):
    order = node.assign(node.pipeline("sleep 60", desired_seq=5))
    await node.until_state(order.execution_id, "starting", "running")
    node.desire(order.execution_id, 4)
    assert node.supervisor.inventory()[0]["desired_seq"] == 5
    assert node.states(order.execution_id) == ["starting", "running"]


async def test_jobs_get_the_nodes_variables_under_their_own(node):
    order = node.assign(
        node.plane.script(
            'echo "$SITE $JOBSITE_NODE $OWN"; cd "$JOBSITE_WORKDIR" && pwd',
            env={"OWN": "mine", "JOBSITE_NODE": "mine"},
        )
    )
    await node.until(lambda: node.frames(order.execution_id, ResultReport))
    (result,) = node.frames(order.execution_id, ResultReport)
    assert result.output.splitlines() == [
        "lab edge-1 mine",
        str(node.folder / "executions" / order.execution_id / "work"),
    ]


async def test_a_type_that_this_node_cannot_run_fails_with_a_reason(node):
    order = node.assign(node.plane.assignment(job_type="mystery", restart_policy="always"))
    await node.until_state(order.execution_id, "starting", "failed")
    last = node.frames(order.execution_id, protocol.State)[-1]
    assert last.error_code == "unsupported_type"
    assert "mystery" in last.message


# --- Envelopes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spoil",
    [
        lambda plane, order: plane.envelope(order, seed=bytes(32)),
        lambda plane, order: plane.envelope(replace(order, node_id="another")),
        lambda plane, order: plane.envelope(replace(order, expires_at="2020-01-01T00:00:00Z")),
        lambda plane, order: plane.envelope(replace(order, not_before="2120-01-01T00:00:00Z")),
    ],
)
async def test_what_is_not_signed_for_this_node_and_now_never_runs(node, tmp_path, spoil):
    order = node.plane.script(f"touch {tmp_path}/ran")
    node.supervisor.assign(spoil(node.plane, order), time.time())
    assert node.states(order.execution_id) == ["failed"]
    (result,) = node.frames(order.execution_id, ResultReport)
    assert (result.status, result.error_code) == ("failed", "assignment_signature_invalid")
    assert node.supervisor.inventory() == []
    assert not (tmp_path / "ran").exists()


async def test_a_replayed_assignment_does_not_run_again(node, tmp_path):
    order = node.plane.script(f"echo ran >>{tmp_path}/oracle")
    envelope = node.plane.envelope(order)
    for _ in range(3):
        node.supervisor.assign(envelope, time.time())
    await node.until_state(order.execution_id, "starting", "running", "completed")
    node.supervisor.assign(envelope, time.time())
    assert node.supervisor.inventory() == []
    await node.close()
    node.open()
    node.supervisor.assign(envelope, time.time())
    assert node.supervisor.inventory() == []
    assert (tmp_path / "oracle").read_text() == "ran\n"


async def test_a_forged_assignment_of_a_known_execution_does_not_touch_it(node):
    order = node.assign(node.pipeline("sleep 60"))
    await node.until_state(order.execution_id, "starting", "running")
    forged = replace(order, desired_seq=9)
    node.supervisor.assign(node.plane.envelope(forged, seed=bytes(32)), time.time())
    assert node.states(order.execution_id) == ["starting", "running"]
    assert node.supervisor.inventory()[0]["desired_seq"] == 1


# --- Restarts ------------------------------------------------------------------------------------


async def test_work_that_fails_is_started_again_and_counted(node, tmp_path):
    order = node.assign(
        node.pipeline(
            f"echo x >>{tmp_path}/n; [ $(wc -l <{tmp_path}/n) -lt 4 ] && exit 3; sleep 60"
        )
    )
    await node.until(lambda: len(node.states(order.execution_id)) == 8)
    assert node.states(order.execution_id) == ["starting", "running"] * 4
    states = node.frames(order.execution_id, protocol.State)
    assert [state.restarts for state in states] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert "exit code 3" in states[2].message
    assert node.frames(order.execution_id, ResultReport) == []


@pytest.mark.parametrize(
    ("policy", "code", "end"),
    [
        ("never", 1, "failed"),
        ("never", 0, "completed"),
        ("on-failure", 0, "completed"),
    ],
)
async def test_the_restart_policy_says_when_it_is_over(node, policy, code, end):
    order = node.assign(node.pipeline(f"exit {code}", restart_policy=policy))
    await node.until_state(order.execution_id, "starting", "running", end)
    (result,) = node.frames(order.execution_id, ResultReport)
    assert (result.status, result.exit_code) == (end, code)


async def test_policy_always_starts_again_after_success(node, tmp_path):
    order = node.assign(node.pipeline("exit 0", restart_policy="always"))
    await node.until(lambda: len(node.states(order.execution_id)) >= 6)
    node.desire(order.execution_id, 2)
    await node.until(lambda: node.states(order.execution_id)[-1:] == ["stopped"])


async def test_the_sixth_restart_during_validation_fails(node):
    order = node.assign(node.pipeline("echo broken >&2; exit 3", validates=True))
    await node.until(lambda: node.states(order.execution_id)[-1:] == ["failed"])
    assert node.states(order.execution_id) == ["starting", "validating"] * 6 + ["failed"]
    last = node.frames(order.execution_id, protocol.State)[-1]
    assert (last.error_code, last.restarts) == ("too_many_restarts", 5)
    (result,) = node.frames(order.execution_id, ResultReport)
    assert "broken" in result.error


async def test_work_that_may_be_stable_already_is_restarted_without_limit(node):
    order = node.assign(
        node.pipeline("echo window; sleep 0.3; exit 3", validates=True, interval=0.1)
    )
    await node.until(lambda: node.states(order.execution_id).count("validating") >= 8)
    assert "failed" not in node.states(order.execution_id)


def test_the_wait_doubles_up_to_five_minutes():
    timing = Timing()
    assert [timing.delay(n) for n in range(1, 12)] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert timing.delay(10_000) == 300


@pytest.mark.parametrize(
    ("healthy_after", "expected"), [(0.0, {"0.02"}), (600.0, {"0.02", "0.04", "0.08"})]
)
async def test_the_wait_is_reset_once_it_has_been_up_for_long(tmp_path, healthy_after, expected):
    timing = Timing(first_delay=0.02, longest_delay=9, healthy_after=healthy_after, grace=1)
    (tmp_path / "n").mkdir()
    node = Node(tmp_path / "n", timing)
    order = node.assign(node.pipeline("exit 3"))
    await node.until(lambda: len(node.states(order.execution_id)) >= 7)
    states = node.frames(order.execution_id, protocol.State)[:7]
    waits = {state.message.split()[-2] for state in states if "next start" in state.message}
    assert waits == expected
    await node.close()


async def test_a_window_after_a_restart_shows_it_and_one_without_a_process_is_dead(tmp_path):
    (tmp_path / "n").mkdir()
    node = Node(tmp_path / "n", Timing(first_delay=1.0, grace=1))
    payload = (
        f"echo x >>{tmp_path}/c; [ $(wc -l <{tmp_path}/c) = 1 ] && exit 3; echo window; sleep 9"
    )
    order = node.assign(node.pipeline(payload, interval=0.3))
    await node.until(
        lambda: any(w.process_alive for w in node.frames(order.execution_id, protocol.WindowReport))
    )
    windows = node.frames(order.execution_id, protocol.WindowReport)
    assert [w.number for w in windows] == list(range(1, len(windows) + 1))
    assert [w.process_alive for w in windows] == [False] * (len(windows) - 1) + [True]
    assert len(windows) >= 3
    assert sum(w.restarts for w in windows) == 1
    assert windows[0].restarts == 1
    await node.close()


async def test_a_stop_during_the_wait_for_a_restart_is_quick(tmp_path):
    (tmp_path / "n").mkdir()
    node = Node(tmp_path / "n", Timing(first_delay=60, grace=1))
    order = node.assign(node.pipeline("exit 3"))
    await node.until_state(order.execution_id, "starting", "running", "starting")
    node.desire(order.execution_id, 2)
    await node.until_state(order.execution_id, "starting", "running", "starting", "stopped")
    await node.close()


async def test_a_timeout_is_never_restarted(node):
    order = node.assign(node.pipeline("sleep 60", execution_timeout=0.3, restart_policy="always"))
    await node.until_state(order.execution_id, "starting", "running", "failed")
    (result,) = node.frames(order.execution_id, ResultReport)
    assert (result.status, result.exit_code) == ("timeout", None)
    assert node.frames(order.execution_id, protocol.State)[-1].error_code == "execution_timeout"


# --- One after the other -------------------------------------------------------------------------


async def test_the_new_execution_starts_only_after_the_old_one_has_ended(node, tmp_path):
    old_payload = (
        f"trap 'while [ ! -e {tmp_path}/let ]; do sleep 0.01; done; exit 0' TERM;"
        f"echo old >>{tmp_path}/log; while :; do sleep 0.01; done"
    )
    old = node.assign(node.pipeline(old_payload))
    await node.until_state(old.execution_id, "starting", "running")
    new = node.assign(
        node.pipeline(
            f"echo new >>{tmp_path}/log; sleep 60",
            previous_execution_id=old.execution_id,
        )
    )
    node.desire(old.execution_id, 2)
    await node.until(lambda: node.states(old.execution_id)[-1:] == ["stopping"])
    assert node.states(new.execution_id) == []
    assert [f.desired_seq for f in node.frames(new.execution_id, protocol.Ack)] == [1]
    (tmp_path / "let").touch()
    await node.until_state(new.execution_id, "starting", "running")
    assert node.states(old.execution_id)[-1:] == ["stopped"]


async def test_two_executions_of_one_job_never_run_at_once(node):
    first = node.assign(node.pipeline("sleep 60"))
    second = node.assign(node.pipeline("sleep 60", job_id=first.job_id))
    await node.until_state(first.execution_id, "starting", "running")
    assert processes_of(second.execution_id) == []
    node.desire(first.execution_id, 2)
    await node.until_state(second.execution_id, "starting", "running")


async def test_what_waits_for_its_turn_can_be_stopped(node):
    first = node.assign(node.pipeline("sleep 60"))
    second = node.assign(
        node.pipeline("sleep 60", job_id=first.job_id, previous_execution_id=first.execution_id)
    )
    await node.until_state(first.execution_id, "starting", "running")
    node.desire(second.execution_id, 2)
    await node.until_state(second.execution_id, "stopped")
    third = node.assign(node.pipeline("sleep 60", job_id=first.job_id))
    node.desire(first.execution_id, 2)
    await node.until_state(third.execution_id, "starting", "running")


async def test_an_execution_that_ended_is_resurrected_by_a_newer_assignment(node):
    order = node.assign(node.pipeline("sleep 60"))
    await node.until_state(order.execution_id, "starting", "running")
    node.desire(order.execution_id, 2)
    await node.until(lambda: node.states(order.execution_id)[-1:] == ["stopped"])
    node.assign(resent(order, desired_seq=3))
    await node.until(lambda: node.states(order.execution_id)[-1:] == ["running"])
    last = node.frames(order.execution_id, protocol.State)[-1]
    assert last.attempt == 2


async def test_what_ended_says_so_again_when_it_is_stopped_by_a_newer_number(node):
    order = node.assign(node.pipeline("sleep 60"))
    await node.until_state(order.execution_id, "starting", "running")
    node.desire(order.execution_id, 2)
    await node.until(lambda: node.states(order.execution_id)[-1:] == ["stopped"])
    # It was resurrected as number 3, and stopped before the node heard of it.
    node.desire(order.execution_id, 4)
    assert node.states(order.execution_id).count("stopped") == 2
    assert node.frames(order.execution_id, protocol.Ack)[-1].desired_seq == 4
    node.desire(order.execution_id, 3)
    assert node.states(order.execution_id).count("stopped") == 2


async def test_a_newer_assignment_at_the_very_moment_of_its_end_is_not_lost(node):
    order = node.assign(node.pipeline("exit 0"))
    await node.until(lambda: node.states(order.execution_id)[-1:] == ["completed"])
    node.assign(resent(order, desired_seq=2))
    await node.until(lambda: node.states(order.execution_id).count("completed") == 2)


async def test_a_newer_assignment_while_it_is_being_stopped_starts_it_again_afterwards(node):
    order = node.assign(node.pipeline("sleep 60"))
    await node.until_state(order.execution_id, "starting", "running")
    node.desire(order.execution_id, 2)
    node.assign(resent(order, desired_seq=3))
    await node.until(lambda: node.states(order.execution_id).count("running") == 2)
    assert node.states(order.execution_id) == [
        "starting",
        "running",
        "stopping",
        "stopped",
        "starting",
        "running",
    ]
    assert node.frames(order.execution_id, protocol.State)[-1].attempt == 2


# --- The agent's own end -------------------------------------------------------------------------


async def test_long_running_work_goes_on_after_an_orderly_end_of_the_agent(node):
    order = node.assign(node.pipeline("sleep 60"))
    await node.until_state(order.execution_id, "starting", "running")
    await node.close()
    assert processes_of(order.execution_id) == []
    node.open()
    await node.until_state(order.execution_id, "starting", "running", "starting", "running")
    restarted = node.frames(order.execution_id, protocol.State)[2]
    assert restarted.restarts == 1
    assert restarted.details["restarted_at"]
    assert node.frames(order.execution_id, ResultReport) == []


async def test_what_had_not_started_when_the_agent_ended_starts_later(node):
    first = node.assign(node.pipeline("sleep 60"))
    second = node.assign(node.plane.script("echo hello", job_id=first.job_id))
    await node.until_state(first.execution_id, "starting", "running")
    await node.close()
    node.open()
    node.desire(first.execution_id, 2)
    await node.until_state(second.execution_id, "starting", "running", "completed")


async def test_a_full_disk_refuses_new_work_and_says_so(node):
    node.journal.full = True
    node.journal._reserve.take = lambda: False
    order = node.assign(node.plane.script("true"))
    assert node.states(order.execution_id) == ["stopped"]
    (state,) = node.frames(order.execution_id, protocol.State)
    assert (state.error_code, state.details) == ("disk_full", {"reason": "refused"})
    assert node.supervisor.inventory() == []


@pytest.mark.parametrize("reopened", [False, True])
async def test_what_was_refused_never_runs_under_that_number(node, tmp_path, reopened):
    node.journal.full = True
    take, node.journal._reserve.take = node.journal._reserve.take, lambda: False
    order = node.assign(node.plane.script(f"echo ran >>{tmp_path}/oracle"))
    node.journal._reserve.take = take
    assert node.journal.recover_space()
    if reopened:
        await node.close()
        node.open()
    # The control plane died before it had stored the refusal, and sends the same once more.
    node.assign(order)
    assert node.supervisor.inventory() == []
    assert node.states(order.execution_id) == ["stopped"]
    assert [ack.desired_seq for ack in node.frames(order.execution_id, protocol.Ack)] == [1, 1]
    node.assign(resent(order, desired_seq=2))
    await node.until(lambda: node.states(order.execution_id)[-1:] == ["completed"])
    assert (tmp_path / "oracle").read_text() == "ran\n"


async def test_an_envelope_that_was_refused_never_runs_when_it_comes_signed_anew(node, tmp_path):
    order = node.plane.script(f"touch {tmp_path}/ran")
    late = replace(order, expires_at="2020-01-01T00:00:00Z")
    node.supervisor.assign(node.plane.envelope(late), time.time())
    assert node.states(order.execution_id) == ["failed"]
    node.assign(order)
    assert node.supervisor.inventory() == []
    assert node.states(order.execution_id) == ["failed"]
    assert not (tmp_path / "ran").exists()


async def test_work_that_runs_goes_on_when_its_assignment_is_renewed_on_a_full_disk(node):
    order = node.assign(node.pipeline("sleep 60"))
    await node.until_state(order.execution_id, "starting", "running")
    node.journal.full = True
    node.journal._reserve.take = lambda: False
    node.assign(resent(order, desired_seq=2))
    assert node.states(order.execution_id) == ["starting", "running"]
    (found,) = node.supervisor.inventory()
    assert found["desired_seq"] == 2
    # What is being stopped would have to start again, and is refused.
    node.desire(order.execution_id, 3)
    node.assign(resent(order, desired_seq=4))
    await node.until(lambda: node.supervisor.inventory() == [])
    states = node.frames(order.execution_id, protocol.State)
    assert "refused" in [each.details.get("reason") for each in states]
    assert states[-1].observed_state == "stopped"


def test_a_result_that_would_not_fit_a_frame_loses_its_beginning():
    result = ResultReport(
        execution_id="x", status="completed", output="\x01" * (1 << 20), error="é" * (1 << 20)
    )
    fitted = fit(result)
    assert len(protocol.encode(fitted)) <= protocol.MAX_FRAME
    assert fitted.truncated
    assert len(fitted.output) > 100_000
    assert json.loads(protocol.encode(fitted))["output"] == fitted.output

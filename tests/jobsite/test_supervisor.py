"""The supervisor over real child processes: order, readiness, restarts, the end."""

import asyncio
import contextlib
import io
import os
import signal
import subprocess
import sys

import psutil
import pytest

from jobsite.children import ChildFailedError, Printer, Proc, Timing
from jobsite.supervisor import Supervisor
from tests.stack import PROJECT, clean_environment
from tests.waiting import wait_until

QUICK = Timing(first_wait=0.01, longest_wait=0.02, ready_within=10, poll=0.01)
WAIT = "import signal; signal.pause()"
READY = f"print('ready'); {WAIT}"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def proc(name, snippet, **more):
    more.setdefault("ready", lambda lines: "ready" in lines)
    return Proc(name=name, argv=(sys.executable, "-u", "-c", snippet), **more)


@contextlib.asynccontextmanager
async def supervising(timing=QUICK, out=None):
    supervisor = Supervisor(Printer(out or io.StringIO()), timing)
    try:
        yield supervisor
    finally:
        await supervisor.stop()


async def until(predicate, deadline=60.0):
    async with asyncio.timeout(deadline):
        while not predicate():
            await asyncio.sleep(0.01)


def only_child(supervisor):
    (child,) = supervisor._children()
    return child


async def test_a_stage_starts_when_the_one_before_is_ready(tmp_path):
    gate, seen = tmp_path / "gate", tmp_path / "seen"
    first = proc("first", WAIT, ready=lambda lines: gate.exists())
    second = proc("second", f"open({str(seen)!r}, 'w'); {READY}")
    async with supervising() as supervisor:

        async def start():
            await supervisor.start(first)
            await supervisor.start(second)

        starting = asyncio.create_task(start())
        await until(lambda: supervisor._children() and only_child(supervisor).pid)
        await asyncio.sleep(0.2)
        assert not seen.exists()
        gate.touch()
        await starting
        assert seen.exists()


async def test_what_children_say_has_their_name_in_front():
    out = io.StringIO()
    async with supervising(out=out) as supervisor:
        await supervisor.start(proc("talker", f"print('hello'); {READY}"))
    assert "talker | hello\n" in out.getvalue()


def test_names_are_coloured_on_a_terminal_only_and_stand_in_a_column():
    plain, coloured = io.StringIO(), Terminal()
    for out in (plain, coloured):
        printer = Printer(out, ["web", "worker"])
        printer.line("web", "up")
        printer.line("worker", "up")
    assert plain.getvalue() == "web    | up\nworker | up\n"
    assert coloured.getvalue() == "\x1b[36mweb   \x1b[0m | up\n\x1b[32mworker\x1b[0m | up\n"


def test_a_terminal_that_went_away_stops_nothing():
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    Printer(Gone()).line("web", "up")


async def test_a_killed_child_is_started_again():
    out = io.StringIO()
    async with supervising(out=out) as supervisor:
        await supervisor.start(proc("web", READY))
        child = only_child(supervisor)
        before = child.pid
        os.kill(before, signal.SIGKILL)
        await until(lambda: child.pid not in {None, before})
        assert child.failure is None
    assert "web | was ended by SIGKILL; starts again in 0.01 s" in out.getvalue()


async def test_preparation_comes_before_each_life():
    lives = []
    async with supervising() as supervisor:
        await supervisor.start(proc("web", READY, prepare=lambda: lives.append(len(lives))))
        os.kill(only_child(supervisor).pid, signal.SIGKILL)
        await until(lambda: len(lives) == 2)


async def test_what_a_dead_child_left_in_its_group_goes_with_it():
    script = "import subprocess, sys; p = subprocess.Popen(['sleep', '600']); print(p.pid); "
    async with supervising() as supervisor:
        await supervisor.start(proc("worker", script + WAIT, ready=any))
        left = psutil.Process(int(only_child(supervisor).last_lines()[0]))
        os.kill(only_child(supervisor).pid, signal.SIGKILL)
        await until(lambda: not left.is_running() or left.status() == psutil.STATUS_ZOMBIE)


async def test_children_that_shall_survive_are_left_for_the_next_life():
    script = "import subprocess, sys; p = subprocess.Popen(['sleep', '600']); print(p.pid); "
    async with supervising() as supervisor:
        agent = proc("edge-1", script + WAIT, ready=any, children_survive=True)
        await supervisor.start(agent)
        child = only_child(supervisor)
        left, before = psutil.Process(int(child.last_lines()[0])), child.pid
        os.kill(before, signal.SIGKILL)
        await until(lambda: child.pid not in {None, before} and child.last_lines())
        assert left.status() == psutil.STATUS_SLEEPING
        left.kill()


async def test_five_deaths_end_the_run_with_the_last_twenty_lines():
    loud = "print('ready'); [print(n) for n in range(30)]; raise SystemExit(3)"
    async with supervising() as supervisor:
        supervisor_run = asyncio.create_task(start_and_run(supervisor, proc("worker", loud)))
        with pytest.raises(
            ChildFailedError, match="worker ended with code 3, 5 times in 60 s"
        ) as end:
            await asyncio.wait_for(supervisor_run, 20)
    assert end.value.lines == tuple(str(n) for n in range(10, 30))


async def start_and_run(supervisor, *procs):
    await supervisor.start(*procs)
    await supervisor.run()


async def test_a_child_that_never_gets_ready_ends_the_start():
    timing = Timing(ready_within=0.3, poll=0.01)
    async with supervising(timing) as supervisor:
        with pytest.raises(ChildFailedError, match="web did not become ready"):
            await supervisor.start(proc("web", WAIT))


async def test_a_program_that_does_not_exist_is_told():
    async with supervising() as supervisor:
        with pytest.raises(ChildFailedError, match=r"web cannot start.*no/such/program"):
            await supervisor.start(Proc(name="web", argv=("/no/such/program",)))


async def test_the_log_file_takes_the_output_and_gives_the_last_lines(tmp_path):
    log = tmp_path / "log" / "server.log"
    async with supervising(Timing(ready_within=0.5, poll=0.01)) as supervisor:
        with pytest.raises(ChildFailedError) as end:
            await supervisor.start(proc("server", f"print('broken'); {WAIT}", log=log))
    assert end.value.lines == ("broken",)
    assert log.read_text() == "broken\n"


async def test_a_command_gives_its_lines_or_its_failure():
    async with supervising() as supervisor:
        python = (sys.executable, "-c")
        lines = await supervisor.once("good", *python, "print('a'); print('b')")
        assert lines == ["a", "b"]
        with pytest.raises(ChildFailedError, match="bad ended with code 2") as end:
            await supervisor.once("bad", *python, "print('why'); raise SystemExit(2)")
    assert end.value.lines == ("why",)


async def test_a_very_long_line_is_no_harm():
    async with supervising() as supervisor:
        long = f"print('x' * 3_000_000); {READY}"
        await supervisor.start(proc("talker", long))


async def test_the_last_started_ends_first():
    ends = []

    class Noting(Printer):
        def line(self, name, text):
            if text == "bye":
                ends.append(name)

    polite = "import signal; signal.signal(15, lambda *_: (print('bye'), exit())); print('ready');"
    supervisor = Supervisor(Noting(io.StringIO()), QUICK)
    for name in ("web", "worker", "edge-1"):
        await supervisor.start(proc(name, f"{polite} signal.pause()"))
    await supervisor.stop()
    assert ends == ["edge-1", "worker", "web"]


async def test_a_deaf_child_is_killed_after_its_grace():
    deaf = "import signal; signal.signal(15, signal.SIG_IGN); print('ready'); signal.pause()"
    async with supervising() as supervisor:
        await supervisor.start(proc("web", deaf, grace=0.2))
        pid = only_child(supervisor).pid
    assert not psutil.pid_exists(pid)


async def test_asking_twice_to_stop_cuts_the_grace_short():
    deaf = "import signal; signal.signal(15, signal.SIG_IGN); print('ready'); signal.pause()"
    supervisor = Supervisor(Printer(io.StringIO()), QUICK)
    await supervisor.start(proc("web", deaf, grace=600))
    supervisor.ask_to_stop()
    await supervisor.run()
    ending = asyncio.create_task(supervisor.stop())
    await asyncio.sleep(0.05)
    supervisor.ask_to_stop()
    await asyncio.wait_for(ending, 10)


async def test_a_stop_in_the_middle_of_a_start_ends_the_start():
    async with supervising() as supervisor:
        starting = asyncio.create_task(supervisor.start(proc("web", WAIT)))
        await until(lambda: supervisor._children() and only_child(supervisor).pid)
        supervisor.ask_to_stop()
        await asyncio.wait_for(starting, 5)
        await supervisor.once("late", sys.executable, "-c", WAIT)


# --- the supervisor as a process of its own --------------------------------------------------------


@pytest.fixture
def supervised():
    started = []

    def start(*snippets, **options):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.jobsite.run_supervisor", *snippets],
            cwd=PROJECT,
            env=clean_environment(),
            stdout=subprocess.PIPE,
            text=True,
            **options,
        )
        started.append(process)
        lines = []
        for line in process.stdout:
            if line == "all ready\n":
                break
            lines.append(line)
        pids = {int(word) for line in lines for word in line.split() if word.isdigit()}
        return process, [psutil.Process(pid) for pid in pids]

    yield start
    for process in started:
        process.kill()
        process.communicate()


TELL = "import os; print(os.getpid()); "
# A child whose own child sits in a session of its own and does not listen to TERM.
WITH_HIDDEN_CHILD = (
    "import os, subprocess, sys; "
    "hidden = subprocess.Popen([sys.executable, '-c', "
    "'import signal; signal.signal(15, signal.SIG_IGN); signal.pause()'], "
    "start_new_session=True); "
    "print(os.getpid(), hidden.pid); "
)


def is_gone(process):
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_signal_ends_the_run_cleanly(supervised, signum):
    process, children = supervised(TELL + WAIT, TELL + WAIT)
    process.send_signal(signum)
    assert process.wait(60) == 0
    assert len(children) == 2
    assert all(is_gone(child) for child in children)


def test_ctrl_c_also_ends_a_run_that_was_started_deaf_to_it(supervised):
    def ignore():
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    process, _ = supervised(TELL + WAIT, preexec_fn=ignore)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands orphans to a supervisor")
def test_a_childs_hidden_children_end_with_the_run(supervised):
    process, children = supervised(WITH_HIDDEN_CHILD + WAIT)
    process.terminate()
    assert process.wait(60) == 0
    assert len(children) == 2
    assert all(is_gone(child) for child in children)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands orphans to a supervisor")
def test_orphans_of_a_killed_child_do_not_stay_as_zombies(supervised):
    process, children = supervised(WITH_HIDDEN_CHILD + WAIT)
    hidden = next(child for child in children if child.ppid() != process.pid)
    next(child for child in children if child.ppid() == process.pid).kill()
    wait_until(lambda: hidden.ppid() == process.pid)
    hidden.kill()
    wait_until(lambda: not psutil.pid_exists(hidden.pid))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of a parent's death")
def test_children_end_when_the_supervisor_is_killed(supervised):
    process, children = supervised(TELL + WAIT, TELL + WAIT)
    process.kill()
    wait_until(lambda: all(is_gone(child) for child in children))

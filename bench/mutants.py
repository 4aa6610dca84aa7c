"""Plants known bugs one at a time in a copy of the repository, and sees whether the tests notice.

`python bench/mutants.py` plants all of them, `python bench/mutants.py M5 M11` those named. Before
that, the same tests must pass without any bug. The work tree is never touched.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
PURE = ("-p", "no:django")
DATABASE = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One bug: in which file which text becomes which other, and where it should be noticed."""

    name: str
    what: str
    file: str
    old: str
    new: str
    tests: str
    options: tuple[str, ...] = DATABASE


MUTANTS = (
    Mutant(
        name="M1",
        what="a job is brought forward without its lock",
        file="jobs/services.py",
        old="return Job.objects.select_for_update(no_key=True).get(pk=job_id)",
        new="return Job.objects.get(pk=job_id)",
        tests="tests/rollouts/test_reconcile_races.py",
    ),
    Mutant(
        name="M2",
        what="one unhealthy window more than the threshold is needed",
        file="rollouts/health.py",
        old="if streaks.unhealthy >= policy.failure_threshold:",
        new="if streaks.unhealthy > policy.failure_threshold:",
        tests="tests/core/test_health_windows.py",
        options=PURE,
    ),
    Mutant(
        name="M3",
        what="a wave is rounded down, to nothing if need be",
        file="rollouts/planner.py",
        old="return max(1, -(-total_nodes * max_parallel // 100))",
        new="return total_nodes * max_parallel // 100",
        tests="tests/core/test_planner_waves.py",
        options=PURE,
    ),
    Mutant(
        name="M4",
        what="a lost execution counts as a success",
        file="rollouts/targets.py",
        old="WHEN {stable} OR e.observed_state = 'completed' THEN 'updated'",
        new="WHEN {stable} OR e.observed_state IN ('completed', 'lost') THEN 'updated'",
        tests="tests/rollouts/test_reconcile_nodes.py tests/rollouts/test_reconcile_model.py",
    ),
    Mutant(
        name="M5",
        what="a report that was seen before is applied again",
        file="rollouts/ingest.py",
        old="if sender is None or (seq and seq <= sender.last_seq):",
        new="if sender is None:",
        tests="tests/rollouts/test_ingest.py",
    ),
    Mutant(
        name="M6",
        what="a stable execution that fails forgets that it was stable",
        file="rollouts/observation.py",
        old='        "finished_at": now if to in TERMINAL else None,\n    }',
        new='        "finished_at": now if to in TERMINAL else None,\n'
        '        "stable_at": None if to is ObservedState.FAILED else facts.stable_at,\n    }',
        tests="tests/core/test_observation.py",
        options=PURE,
    ),
    Mutant(
        name="M7",
        what="nodes are marked silent right after the control plane came back",
        file="nodes/services.py",
        old="if clock is None or now <= clock.started_at + settings.START_GRACE:",
        new="if clock is None:",
        tests="tests/nodes/test_silent_nodes.py",
    ),
    Mutant(
        name="M8",
        what="a submission that was made for an older version is written anyway",
        file="jobs/services.py",
        old="if submission.expected is not None and submission.expected != etag_of(job):",
        new="if False:",
        tests="tests/jobs/test_stale_submissions.py",
    ),
    Mutant(
        name="M9",
        what="reports are acknowledged before they are committed",
        file="rollouts/gateway.py",
        old='self._confirm(await self._run("ingest", partial(ingest, batch)))',
        new="self._confirm(Taken(up_to={i.node_id: i.frame.seq for i in batch}))\n"
        '                await self._run("ingest", partial(ingest, batch))',
        tests="tests/rollouts/test_gateway.py",
    ),
    Mutant(
        name="M9b",
        what="the doorbell sounds before the commit",
        file="live/push.py",
        old="    transaction.on_commit(lambda: _send_task(name, args), robust=True)",
        new="    _send_task(name, args)",
        tests="tests/live/test_doorbells.py",
    ),
    Mutant(
        name="M10",
        what="what is due is forgotten when no message says so",
        file="rollouts/sweeper.py",
        old="    return _take(sweep_due) > 0\n",
        new="    return False\n",
        tests="tests/rollouts/test_gateway.py tests/rollouts/test_silence.py",
    ),
    Mutant(
        name="M11",
        what="the agent forgets a report when it has sent it",
        file="agent/session.py",
        old="                    await socket_.send(text)\n                    sent = number",
        new="                    await socket_.send(text)\n                    sent = number\n"
        "                    self._journal.committed(number)",
        tests="tests/agent/test_agent_session.py",
    ),
    Mutant(
        name="M12",
        what="a later report overwrites how an execution ended",
        file="rollouts/states.py",
        old="    ObservedState.COMPLETED: frozenset(),",
        new="    ObservedState.COMPLETED: frozenset({ObservedState.FAILED}),",
        tests="tests/core/test_states_tables.py tests/core/test_observation.py",
        options=PURE,
    ),
    Mutant(
        name="M12b",
        what="a later result replaces the first",
        file="rollouts/ingest.py",
        old="harvest.results.setdefault(subject.row.pk, _result_row(subject.row, report))",
        new="harvest.results[subject.row.pk] = _result_row(subject.row, report)",
        tests="tests/rollouts/test_ingest.py",
    ),
    Mutant(
        name="M13",
        what="a rollback that fails rolls back",
        file="rollouts/planner.py",
        old="        and snapshot.rollout_type is not RolloutType.ROLLBACK\n",
        new="",
        tests="tests/core/test_planner_rules.py",
        options=PURE,
    ),
    Mutant(
        name="M14",
        what="a page's socket opens for those who may not read the row",
        file="live/consumers.py",
        old='        if not await self._may_look(viewer, noun, address["pk"]):',
        new="        if False:",
        tests="tests/live/test_live_permissions.py",
    ),
    Mutant(
        name="M15",
        what="an agent takes an assignment that its control plane did not sign",
        file="agent/verify.py",
        old="if not keys.verify(self._key, signature, pre_authentication(payload)):",
        new="if not signature:",
        tests="tests/agent/test_verify.py",
    ),
    Mutant(
        name="M15b",
        what="an agent takes an assignment that has expired",
        file="agent/verify.py",
        old="if now > datetime.fromisoformat(assignment.expires_at).timestamp() + TOLERANCE:",
        new="if False:",
        tests="tests/agent/test_verify.py",
    ),
    Mutant(
        name="M17",
        what="a script begins before its start is in the journal",
        file="agent/execution.py",
        old="        journal.record(entry=self.entry)\n        await journal.sync()\n"
        "        if journal.has_no_room:",
        new="        if gated:\n            gated.release()\n"
        "        journal.record(entry=self.entry)\n        await journal.sync()\n"
        "        if journal.has_no_room:",
        tests="tests/agent/test_agent_crashes.py",
    ),
    Mutant(
        name="M18",
        what="failures at the limit halt, not only those above it",
        file="rollouts/planner.py",
        old="    if failed > policy.max_failed_nodes:",
        new="    if failed >= policy.max_failed_nodes:",
        tests="tests/core/test_planner_rules.py",
        options=PURE,
    ),
    Mutant(
        name="M19",
        what="a wave opens while the one before has unsettled nodes",
        file="rollouts/planner.py",
        old="    if snapshot.wave.unsettled:\n        return",
        new="    if snapshot.wave.unsettled > 1:\n        return",
        tests="tests/core/test_planner_rules.py tests/core/test_planner_waves.py",
        options=PURE,
    ),
    Mutant(
        name="M20",
        what="a desired state that was raised again counts as delivered by the old number",
        file="rollouts/observation.py",
        old="    if not facts.delivered_seq < desired_seq <= facts.desired_seq:",
        new="    if not facts.delivered_seq < desired_seq:",
        tests="tests/core/test_observation.py",
        options=PURE,
    ),
    Mutant(
        name="M21",
        what="a bell is answered again although its job is not due any more",
        file="rollouts/scheduler.py",
        old="job = _due(timezone.now() + BELL_SLACK).select_for_update(no_key=True).get(pk=job_id)",
        new="job = Job.objects.select_for_update(no_key=True).get(pk=job_id)",
        tests="tests/rollouts/test_bells_and_sweeps.py",
    ),
    Mutant(
        name="M22",
        what="a sweep waits for a job that somebody holds",
        file="rollouts/scheduler.py",
        old="select_for_update(no_key=True, skip_locked=True)",
        new="select_for_update(no_key=True)",
        tests="tests/rollouts/test_bells_and_sweeps.py",
    ),
    Mutant(
        name="M23",
        what="a connection that dies in a COPY counts as a bad report",
        file="rollouts/ingest.py",
        old="            connection.wrap_database_errors,\n",
        new="",
        tests="tests/rollouts/test_lost_in_copy.py",
    ),
    Mutant(
        name="M24",
        what="work that ends waits for the scheduler as long as work that begins",
        file="rollouts/subjects.py",
        old="        return self.moved and not calm\n",
        new="        return False\n",
        tests="tests/rollouts/test_bells_and_sweeps.py",
    ),
    Mutant(
        name="M25",
        what="a node forgets what it refused, and runs it when it comes again",
        file="agent/supervisor.py",
        old="self._journal.record([ack, *frames], entry=entry)",
        new="self._journal.record([ack, *frames])",
        tests="tests/agent/test_supervisor.py",
    ),
    Mutant(
        name="M26",
        what="an execution that moves is counted where it goes, and stays counted where it was",
        file="rollouts/migrations/0010_job_tally.py",
        old="AS observed_state, -1 AS n FROM moved",
        new="AS observed_state, 0 AS n FROM moved",
        tests="tests/rollouts/test_chaos_checks.py",
    ),
    Mutant(
        name="M27",
        what="a job that waits is put off by each node that comes or goes",
        file="rollouts/sweeps.py",
        old='due_at = Least(Coalesce("reconcile_due_at", now), now)',
        new="due_at = now",
        tests="tests/rollouts/test_bells_and_sweeps.py",
    ),
)
# M16 (a secret compared with ==) has no place here: tokens and links are found by their digest.


def copy_repository(target):
    """Copy what git knows or would take, without history."""
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listing.stdout.split("\0")):
        source = PROJECT / name
        if source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)


def passes(folder, tests, options):
    """Run tests in the copy; give whether they pass, and the last that pytest said."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "--timeout=60", *options, *tests.split()],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    # 1: a test failed; anything else above 0 means that nothing was tried.
    if done.returncode > 1:
        sys.exit(f"pytest could not run {tests}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 0, done.stdout


def plant(folder, mutant):
    """Write the bug; give the text to put back."""
    file = folder / mutant.file
    text = file.read_text()
    if text.count(mutant.old) != 1:
        sys.exit(f"{mutant.name}: its text is {text.count(mutant.old)} times in {mutant.file}")
    file.write_text(text.replace(mutant.old, mutant.new))
    return text


def first_failure(output):
    """Name the test that noticed."""
    for line in output.splitlines():
        if line.startswith(("FAILED ", "ERROR ")):
            return line.split(" - ")[0].split("::", 1)[-1]
    return ""


def main(names):
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    survivors = []
    with tempfile.TemporaryDirectory(prefix="jobsite-mutants-") as folder:
        copy = Path(folder)
        copy.chmod(0o711)
        copy_repository(copy)
        for options in (PURE, DATABASE):
            tests = {test for m in chosen if m.options == options for test in m.tests.split()}
            if tests:
                fine, output = passes(copy, " ".join(sorted(tests)), options)
                if not fine:
                    sys.exit(f"the tests fail without any bug:\n{output[-3000:]}")
        for mutant in chosen:
            began = time.monotonic()
            before = plant(copy, mutant)
            survived, output = passes(copy, mutant.tests, mutant.options)
            (copy / mutant.file).write_text(before)
            word = "SURVIVED" if survived else f"killed by {first_failure(output)}"
            print(
                f"{mutant.name:4} {mutant.what}: {word} ({time.monotonic() - began:.0f} s)",
                flush=True,
            )
            if survived:
                survivors.append(mutant.name)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} killed", *survivors)
    sys.exit(bool(survivors))


if __name__ == "__main__":
    main(sys.argv[1:])

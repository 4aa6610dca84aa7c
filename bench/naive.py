"""The pattern that Jobsite does not use, under the same kills: each step is a Celery task.

A rollout is a chain of messages: a task does one wave's step, counts it in PostgreSQL (read, then
written back) and sends the message for the next. `acks_late` and `reject_on_worker_lost` are on;
there is no sweep and no lock. The faults come from the schedule of `bench.chaos`, those of workers
alone unless `--flush` adds the broker's FLUSHALL. It prints what was lost and what was done twice, so that the figures
of `make chaos` have something to stand beside.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import psycopg

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.chaos.schedule import make_schedule

STEPS = 20
TABLES = """
CREATE TABLE IF NOT EXISTS rollout (id int PRIMARY KEY, step int NOT NULL);
CREATE TABLE IF NOT EXISTS done (rollout int, step int, at timestamptz DEFAULT clock_timestamp());
"""
WORK = 0.05


def make_app():
    """Make the Celery app from the environment; worker and harness share it."""
    from celery import Celery

    app = Celery("naive", broker=os.environ["CELERY_BROKER_URL"])
    app.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_ignore_result=True,
        worker_prefetch_multiplier=1,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": 10,
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
        },
    )

    @app.task(name="naive.step")
    def step(rollout):
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as where:
            (at,) = where.execute("SELECT step FROM rollout WHERE id = %s", [rollout]).fetchone()
            if at >= STEPS:
                return
            where.execute("INSERT INTO done VALUES (%s, %s)", [rollout, at + 1])
            threading.Event().wait(WORK)
            where.execute("UPDATE rollout SET step = %s WHERE id = %s", [at + 1, rollout])
        step.delay(rollout)

    app.step = step
    return app


class Workers:
    """Two workers, each started again half a second after its end."""

    def __init__(self, folder):
        self._folder = folder
        self._is_over = threading.Event()
        self.processes = [self._start(number) for number in (1, 2)]
        self._keeper = threading.Thread(target=self._keep)
        self._keeper.start()

    def _start(self, number):
        with (self._folder / f"worker-{number}.log").open("ab") as log:
            options = ["-c", "2", "-n", f"naive-{number}@here", "--without-mingle"]
            return subprocess.Popen(
                [sys.executable, "-m", "celery", "-q", "-A", "bench.naive:app", "worker", *options],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _keep(self):
        while not self._is_over.wait(0.5):
            for k, process in enumerate(self.processes):
                if process.poll() is not None:
                    self.processes[k] = self._start(k + 1)

    def hit(self, fault):
        """Do to a worker what the schedule says."""
        process = self.processes[int(fault.pick * 2)]
        signals = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "stop": signal.SIGSTOP}
        signum = signals.get(fault.kind.partition(".")[2], signal.SIGKILL)
        _signal_group(process, signum)
        if signum == signal.SIGSTOP:
            threading.Event().wait(fault.lasts)
            _signal_group(process, signal.SIGCONT)

    def end(self):
        """End both."""
        self._is_over.set()
        self._keeper.join()
        for process in self.processes:
            _signal_group(process, signal.SIGKILL)
            process.wait()


def _signal_group(process, signum):
    try:
        os.killpg(process.pid, signum)
    except ProcessLookupError:
        return


def run(folder, options):
    """Run the rollouts under faults; give what became of them."""
    from redis import Redis

    app = make_app()
    kinds = ("worker.", "valkey.flush") if options.flush else ("worker.",)
    path = os.environ["REDIS_URL"].removeprefix("unix://").split("?")[0]
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as where:
        where.execute(TABLES)
        for rollout in range(options.rollouts):
            where.execute("INSERT INTO rollout VALUES (%s, 0)", [rollout])
        workers = Workers(folder)
        faults = Counter()
        try:
            for rollout in range(options.rollouts):
                app.step.delay(rollout)
            began = time.monotonic()
            for fault in make_schedule(options.seed, options.seconds, options.rate):
                if not fault.kind.startswith(kinds):
                    continue
                threading.Event().wait(max(0.0, began + fault.at - time.monotonic()))
                if fault.kind == "valkey.flush":
                    Redis(unix_socket_path=path).flushall()
                else:
                    workers.hit(fault)
                faults[fault.kind] += 1
            _await_end(where, options.bound)
        finally:
            workers.end()
        return faults, _outcome(where)


def _await_end(where, bound):
    """Wait until every rollout has ended, or none has moved for the bound."""
    state, since = None, time.monotonic()
    while time.monotonic() - since < bound:
        now = where.execute("SELECT sum(step), count(*) FILTER (WHERE step < %s) FROM rollout",
                            [STEPS]).fetchone()  # fmt: skip
        if now[1] == 0:
            return
        if now != state:
            state, since = now, time.monotonic()
        threading.Event().wait(0.5)


def _outcome(where):
    ask = lambda text: where.execute(text).fetchone()[0]  # noqa: E731
    return {
        "decisions": ask("SELECT count(*) FROM done"),
        "doubled": ask("SELECT count(*) - count(DISTINCT (rollout, step)) FROM done"),
        "stuck": ask(f"SELECT count(*) FROM rollout WHERE step < {STEPS}"),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=3.0)
    parser.add_argument("--rollouts", type=int, default=60)
    parser.add_argument("--flush", action="store_true", help="FLUSHALL of the broker too")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bound", type=float, default=20.0)
    options = parser.parse_args()
    from jobsite.embedded import Stack

    folder = Path(tempfile.mkdtemp(prefix="jobsite-naive-")).resolve()
    folder.chmod(0o711)
    with Stack(Path(__file__).resolve().parents[1], folder) as stack:
        os.environ.update(stack.urls)
        faults, outcome = run(folder, options)
    shutil.rmtree(folder, ignore_errors=True)
    print(
        f"naive: {sum(faults.values())} faults, {outcome['decisions']} decisions of "
        f"{options.rollouts} rollouts in {STEPS} steps: {outcome['doubled']} doubled, "
        f"{outcome['stuck']} rollouts stuck for ever; seed {options.seed}"
    )


if "CELERY_BROKER_URL" in os.environ and __name__ != "__main__":
    app = make_app()

if __name__ == "__main__":
    main()

"""One run: start, load, faults, healing, checks, and the report of what was found."""

import asyncio
import contextlib
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from bench.chaos.checks import CHECKS, load_evidence, run_checks
from bench.chaos.driver import Driver
from bench.chaos.faults import Faults
from bench.chaos.oracle import gather
from bench.chaos.product import ChaosProduct
from bench.chaos.schedule import KINDS, make_schedule
from bench.chaos.stalls import Stall, long_waits
from tests.product import free_port

UNFINISHED = """
    SELECT (SELECT count(*) FROM rollouts_rollout WHERE state IN ('active', 'paused')),
        (SELECT count(*) FROM rollouts_execution
         WHERE observed_state NOT IN ('completed', 'failed', 'stopped', 'lost')),
        (SELECT count(*) FROM nodes_node WHERE connection_state <> 'connected')
"""
# The longest that a decision may wait (seconds).
GOAL = 5.0
PAUSED = """
    SELECT job_id::text, pause_reason FROM rollouts_rollout WHERE state = 'paused'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a run is asked for."""

    data: Path
    seconds: float = 300.0
    seed: int = 1
    agents: int = 12
    users: int = 12
    per_second: float = 0.7
    bound: float = 120.0
    faketime: str = ""
    own_network: bool = False
    only: tuple[str, ...] = ()


@dataclass(slots=True)
class Report:
    """What a run found."""

    options: Options
    faults: Counter = field(default_factory=Counter)
    impossible: dict = field(default_factory=dict)
    skipped: int = 0
    executions: int = 0
    rollouts: int = 0
    ends: dict = field(default_factory=dict)
    answers: Counter = field(default_factory=Counter)
    unexpected: list = field(default_factory=list)
    found: dict = field(default_factory=dict)
    stalls: list = field(default_factory=lambda: [Stall(0.0)])
    spans: list = field(default_factory=list)
    replayed: int = 0
    started_in: float = 0.0
    settled_after: float = 0.0
    is_settled: bool = False

    def count(self, group):
        """Return how many rows break the checks of a group."""
        return sum(len(rows) for rows in self.found.get(group, {}).values())

    @property
    def is_clean(self):
        """Say whether nothing was found."""
        return self.is_settled and not any(map(self.count, CHECKS)) and not self.unexpected

    @property
    def is_worth_a_look(self):
        """Say whether something was found, or a decision waited for longer than the goal."""
        return not self.is_clean or self.stalls[0].seconds > GOAL

    def text(self):
        """Return the report as a person reads it."""
        total = sum(self.faults.values())
        headline = (
            f"{total} faults of {len(self.faults)} kinds, {self.executions} executions in "
            f"{self.rollouts} rollouts: {self.count('lost')} lost, {self.count('doubled')} "
            f"doubled, {self.count('violations')} violations"
        )
        lines = [
            headline,
            f"longest wait for a decision beyond pauses and outages: {self.stalls[0]}",
            f"longest at a stretch: {max(stall.stretch for stall in self.stalls):.2f} s",
            f"all settled {self.settled_after:.1f} s after the last fault"
            if self.is_settled
            else "NOT ALL SETTLED within the bound",
            (
                f"seed {self.options.seed}, {self.options.seconds:g} s, {self.options.agents} agents, "
                f"{self.executions / self.options.seconds:.1f} executions a second, "
                f"{self.replayed} frames said again, started in {self.started_in:.1f} s"
            ),
            "faults: " + ", ".join(f"{kind} {n}" for kind, n in sorted(self.faults.items())),
            "ends: " + ", ".join(f"{state} {n}" for state, n in sorted(self.ends.items())),
            "answers: " + ", ".join(f"{code} {n}" for code, n in self.answers.most_common()),
        ]
        lines += [f"another long wait: {stall}" for stall in self.stalls[1:20]]
        lines += [f"not tried: {kind}: {why}" for kind, why in sorted(self.impossible.items())]
        lines += [f"unexpected answer: {text}" for text in self.unexpected[:10]]
        for group in self.found.values():
            for name, rows in group.items():
                lines.append(f"FOUND {len(rows)} x {name}")
                lines += [f"    {row}" for row in rows[:5]]
        return "\n".join(lines)


async def run(options):
    """Run the product under faults, let it come to rest, and give the report."""
    folder = options.data / "oracle"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    product = ChaosProduct(options.data / "var", port=free_port(), agents=options.agents, disks=2)
    began, report = time.monotonic(), None
    try:
        await product.start()
        report = await _under_faults(product, options, folder, time.monotonic() - began)
        return report
    finally:
        await product.stop(keep=report is None or report.is_worth_a_look)


async def _under_faults(product, options, folder, started_in):
    report = Report(options, started_in=started_in)
    faults = Faults(product, faketime=options.faketime, own_network=options.own_network)
    report.impossible = faults.impossible
    without = set(faults.impossible)
    if options.only:
        without |= {kind for kind in KINDS if not kind.startswith(options.only)}
    schedule = make_schedule(options.seed, options.seconds, options.per_second, without)
    urls = [f"http://127.0.0.1:{port}" for port in product.ports]
    driver = Driver(urls, product.rest_token, folder, options.seed, options.users)
    load = asyncio.create_task(driver.run())
    start = time.monotonic()
    await faults.run(schedule)
    await asyncio.sleep(max(0.0, start + options.seconds - time.monotonic()))
    await faults.heal()
    healed = time.monotonic()
    driver.end()
    await load
    report.is_settled = await _settle(product, driver, healed + options.bound)
    report.settled_after = time.monotonic() - healed
    await driver.close()
    report.faults, report.skipped = faults.done, sum(faults.skipped.values())
    report.replayed = faults.replayed
    report.answers, report.unexpected = driver.answers, driver.unexpected
    report.spans = faults.spans
    evidence = gather(folder, product.plan.data / "agents", driver.accepted)
    await asyncio.to_thread(_judge, product.database, evidence, report)
    return report


async def _settle(product, driver, until):
    """Let go what is paused, and wait until nothing is under way and every node is connected."""
    quiet = 0
    while time.monotonic() < until:
        with contextlib.suppress(psycopg.Error):
            where = await psycopg.AsyncConnection.connect(product.database, autocommit=True)
            async with where:
                cursor = await where.execute(PAUSED)
                for job_id, reason in await cursor.fetchall():
                    await driver.let_go(job_id, reason)
                cursor = await where.execute(UNFINISHED)
                quiet = quiet + 1 if sum(await cursor.fetchone()) == 0 else 0
        # What an ended rollout still sets off (a catch-up) must have had the time to begin.
        if quiet == 4:
            return True
        await asyncio.sleep(0.5)
    return False


def _judge(database, evidence, report):
    with psycopg.connect(database, autocommit=True) as where, where.cursor() as cursor:
        load_evidence(cursor, evidence)
        report.found = run_checks(cursor)
        report.executions = cursor.execute("SELECT count(*) FROM rollouts_execution").fetchone()[0]
        report.rollouts = cursor.execute("SELECT count(*) FROM rollouts_rollout").fetchone()[0]
        report.ends = dict(
            cursor.execute(
                "SELECT observed_state, count(*) FROM rollouts_execution GROUP BY 1"
            ).fetchall()
        )
        report.stalls = long_waits(cursor, report.spans)


def keep_or_remove(report, folder):
    """Keep the folder of a run that found something, with the times of its faults."""
    if not report.is_worth_a_look:
        shutil.rmtree(folder, ignore_errors=True)
        return
    (folder / "report.txt").write_text(report.text())
    lines = [f"{s.start:.3f} {s.end:.3f} {s.kind} {s.name}" for s in report.spans]
    (folder / "faults.txt").write_text("\n".join(["start end kind name", *lines]))
    print(f"kept for a look: {folder}")

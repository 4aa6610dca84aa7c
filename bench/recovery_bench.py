"""Rows 14 and 15: a rollout whose scheduler is killed, and how soon a fresh start can be used."""

import argparse
import asyncio
import random
import shutil
import statistics
import subprocess
import sys
import time

import ground
import httpx
import uvloop
from ledger import Figure, load, record, spread

from bench.agents import Script
from bench.fleet import Fleet, enrol
from bench.whole import say, whole
from tests.product import Product
from tests.stack import make_server_folder
from tests.waiting import wait_until

AGENTS, WAVE = 20, 2
STALL_GOAL, START_GOAL = 3.0, 6.0
WINDOW, LATENCY = 0.2, 0.02
# Between two kills: `up` gives a child up that dies too often in a minute.
PAUSE = 15.0


# --- Row 14 --------------------------------------------------------------------------------------


def spec(number):
    """A pipeline in waves of two nodes, different for each number."""
    health = {"interval": "1s", "deadline": "60s", "success_threshold": 1, "failure_threshold": 3}
    return {
        "name": "kill-bench",
        "type": "pipeline",
        "selector": {"match_labels": {"role": "gateway"}},
        "rollout": {
            "strategy": "rolling",
            "max_parallel": 100 * WAVE // AGENTS,
            "health_check": health,
        },
        "config": {
            "input": {"generate": {"interval": "1s", "mapping": f"root = {number}"}},
            "output": {"drop": {}},
        },
    }


def kill_worker(running):
    """End the scheduler as a crash does: the worker and its pool at the same moment."""
    for process in running.processes("worker"):
        process.kill()


async def roll_out(running, fleet, number, chance, *, kill):
    """Bring one version to all nodes; give seconds from the kill on, and between other waves."""
    fleet.assignments.clear()
    job = await asyncio.to_thread(running.submit, spec(number))
    killed_at, half = None, AGENTS // 2
    await fleet.until(lambda: len(fleet.assignments) >= half, 60)
    if kill:
        # As the last reports of this wave arrive: the decision on the next one is under way.
        await asyncio.sleep(WINDOW + 3 * LATENCY + chance.uniform(0, 0.1))
        killed_at = time.time() if len(fleet.assignments) == half else None
        await asyncio.to_thread(kill_worker, running)
    await fleet.until(lambda: len(fleet.assignments) >= AGENTS, 120)
    came = [at for at, *_ in fleet.assignments]
    steps = [came[k] - came[k - WAVE] for k in range(WAVE, half, WAVE)]
    twice = await asyncio.to_thread(
        running.one,
        "SELECT count(*) - count(DISTINCT node_id) FROM rollouts_execution "
        "WHERE job_id = %s AND job_version = %s",
        [job, number],
    )
    await asyncio.to_thread(wait_until, lambda: has_ended(running, job, number), 60)
    return None if killed_at is None else came[half] - killed_at, steps, twice


def has_ended(running, job, number):
    """Say whether the rollout of a version is completed."""
    return running.one(
        "SELECT count(*) FROM rollouts_rollout r JOIN jobs_jobversion v ON v.id = r.version_id "
        "WHERE r.job_id = %s AND v.number = %s AND r.state = 'completed'",
        [job, number],
    )


async def measure_kills(running, members, kills):
    """Give stalls after each kill, the usual seconds of a wave, and what was done twice."""
    fleet = Fleet(running.url, members, Script(latency=LATENCY, interval=WINDOW, windows=1))
    chance = random.Random(14)
    await fleet.connect(60)
    stalls, usual, twice, number = [], [], 0, 0
    try:
        while len(stalls) < kills and number < 3 * kills:
            number += 1
            begin = time.monotonic()
            kill = number > 1
            stall, steps, doubled = await roll_out(running, fleet, number, chance, kill=kill)
            twice += doubled
            usual += steps
            if stall is not None:
                stalls.append(stall)
                say(f"killed: the next wave came after {stall:.2f} s")
            if kill:
                await asyncio.sleep(max(0, PAUSE - time.monotonic() + begin))
        return stalls, usual, twice
    finally:
        await fleet.close()


def row_14(kills):
    """Measure and make the row."""
    with whole() as running:
        members = enrol(running.execute, AGENTS, agents=AGENTS, connection="disconnected")
        stalls, usual, twice = uvloop.run(measure_kills(running, members, kills))
    return Figure(
        row="14",
        what=f"worker and its pool SIGKILLed in mid-wave, {AGENTS} nodes in waves of {WAVE}",
        goal=f"<= {STALL_GOAL:.0f} s, nothing twice",
        figure=f"{spread(stalls)}, slowest counts; {twice} twice",
        met=max(stalls) <= STALL_GOAL and not twice,
        method=(
            f"{len(stalls)} kills as a wave's last reports arrive, to the next assignment on an "
            f"agent; from one wave to the next without a kill: {spread(usual)}"
        ),
    )


# --- Row 15 --------------------------------------------------------------------------------------


def seconds_to_sign_in(folder):
    """Run `up` until its sign-in page answers; give the seconds."""
    product = Product(folder, agents=0)
    begin = time.perf_counter()
    with product.log.open("ab") as log:
        product.process = subprocess.Popen(
            [sys.executable, "manage.py", "up"],
            cwd=ground.PROJECT,
            env=product.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: is_there(product), 90, product.log.read_text)
        return time.perf_counter() - begin
    finally:
        product.stop()


def is_there(product):
    """Say whether the sign-in page answers."""
    try:
        return httpx.get(f"{product.url}/sign-in/", timeout=10).status_code == 200
    except httpx.TransportError:
        return False


def seconds_of_servers(folder):
    """Give the seconds that PostgreSQL and Valkey alone take to be there."""
    from jobsite.embedded import Stack

    folder.mkdir(parents=True)
    folder.chmod(0o711)
    begin = time.perf_counter()
    with Stack(ground.PROJECT, folder):
        return time.perf_counter() - begin


def row_15(times):
    """Measure and make the row."""
    root = make_server_folder()
    fresh, again, servers = [], [], []
    try:
        for number in range(times):
            fresh.append(seconds_to_sign_in(root / f"up-{number}"))
            again.append(seconds_to_sign_in(root / f"up-{number}"))
            servers.append(seconds_of_servers(root / f"servers-{number}"))
            say(f"sign-in page after {fresh[-1]:.1f} s in a new folder, {again[-1]:.1f} s later")
            shutil.rmtree(root / f"up-{number}")
    finally:
        shutil.rmtree(root, ignore_errors=True)
    first, floor = statistics.median(fresh), statistics.median(servers)
    return Figure(
        row="15",
        what="`make up` with packages installed, to the sign-in page",
        goal=f"<= {START_GOAL:.0f} s",
        figure=f"new folder {spread(fresh, digits=1)}, {first / floor:.1f}x; "
        f"later starts {spread(again, digits=1)}",
        met=first <= START_GOAL,
        method=(
            "`manage.py up`; a new folder means initdb, all migrations and all static files "
            f"compressed; both servers alone {spread(servers, digits=1)}"
        ),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--starts", type=int, default=5)
    options = parser.parse_args()
    ground.leave_on_signal()
    at_start = load()
    if options.kills:
        record([row_14(options.kills)], at_start)
    if options.starts:
        record([row_15(options.starts)], at_start)


if __name__ == "__main__":
    main()

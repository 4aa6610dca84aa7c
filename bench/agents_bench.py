"""Rows 3, 4 and 13: real agents run `hostname` in waves, answer by REST, and idle."""

import argparse
import asyncio
import statistics
import time

import ground  # noqa: F401 - puts the project on the path
import psutil
from ledger import Figure, load, percentile, record, spread

from bench import salt_peer
from bench.floor import measure_floor
from bench.whole import say, whole
from tests.waiting import wait_until

WAVES_GOAL, SALT_GOAL = 6.0, 15.0
P50_GOAL, P99_GOAL = 0.040, 0.150
MEMORY_GOAL = 20.0
MIB = 1024 * 1024


def hostname_job(name, **more):
    """A job that runs `hostname` once on nodes."""
    config = {"runner": "shell", "payload": "hostname"}
    return {"name": name, "type": "script", "config": config, **more}


def seconds_of_waves(running, number, agents):
    """Run `hostname` on all agents in gated waves of 10%; give seconds from submit to last result."""
    rollout = {"strategy": "rolling", "max_parallel": 10}
    spec = hostname_job(f"waves-{number}", selector={"target": "_all"}, rollout=rollout)
    begin = time.perf_counter()
    job = running.submit(spec)

    def is_done():
        return running.one(
            "SELECT count(*) = %s FROM rollouts_result r JOIN rollouts_execution e "
            "ON e.id = r.execution_id WHERE e.job_id = %s AND r.status = 'completed'",
            [agents, job],
        )

    wait_until(is_done, 120, "the rollout does not end", every=0.01)
    took = time.perf_counter() - begin
    states = running.execute(
        "SELECT max(rollout_wave) FROM rollouts_execution WHERE job_id = %s", [job]
    )
    assert states[0][0] >= 10, f"the waves were not gated: {states}"
    return took


PARTS = """
    SELECT extract(epoch FROM (SELECT min(at) FROM jobs_event e WHERE e.job_id = j.id
            AND e.kind = 'rollout.started')),
        extract(epoch FROM r.started_at), extract(epoch FROM r.completed_at),
        extract(epoch FROM (SELECT max(at) FROM jobs_event e WHERE e.job_id = j.id
            AND e.kind = 'execution.stable'))
    FROM jobs_job j JOIN rollouts_execution x ON x.job_id = j.id
    JOIN rollouts_result r ON r.execution_id = x.id WHERE j.name = %s
"""


def parts_of(running, answers):
    """Say where the time of the answers went: medians since the request, from the rows' own times."""
    seconds = []
    for number, (began, took) in enumerate(answers, start=1):
        (marks,) = running.execute(PARTS, [f"probe-{number}"])
        seconds.append([*(float(mark) - began for mark in marks), took])
    names = ("decided from", "script from", "script to", "report taken in from", "readable")
    middle = (statistics.median(column) * 1e3 for column in zip(*seconds, strict=True))
    return ", ".join(f"{name} {ms:.0f} ms" for name, ms in zip(names, middle, strict=True))


def seconds_to_result(running, number):
    """Submit a script for one node by REST and ask by REST until its result is there.

    Gives when it began (Unix, seconds) and what it took.
    """
    name = f"probe-{number}"
    began, begin = time.time(), time.perf_counter()
    running.submit(hostname_job(name, selector={"target": "edge-1"}))

    def is_there():
        return running.http.get(f"/jobs/{name}/results").json()["items"]

    result = wait_until(is_there, 20, "no result comes", every=0.003)[0]
    took = time.perf_counter() - begin
    assert result["status"] == "completed", result
    return began, took


def agents_of(running):
    """Give the processes of the real agents."""
    marks = {"agent", "run", "--name"}
    return [
        child
        for child in psutil.Process(running.product.process.pid).children()
        if marks <= set(child.cmdline())
    ]


def measure(options):
    """Give seconds of waves, seconds to a result, and own memory of each agent."""
    with whole(options.agents) as running:
        count = "SELECT count(*) = %s FROM nodes_node WHERE connection_state = 'connected'"
        wait_until(lambda: running.one(count, [options.agents]), 120, "the agents do not come")
        say("letting the agents idle…")
        wait_until(lambda: psutil.cpu_percent(2.0) < 40, 30, "") if options.calm else None
        memory = [agent.memory_full_info().uss for agent in agents_of(running)]
        assert len(memory) == options.agents
        seconds_of_waves(running, 0, options.agents)
        waves = []
        for number in range(1, options.rounds + 1):
            waves.append(seconds_of_waves(running, number, options.agents))
            say(f"hostname on {options.agents} agents in waves of 10%: {waves[-1]:.2f} s")
        seconds_to_result(running, 0)
        answers = [seconds_to_result(running, number) for number in range(1, options.answers + 1)]
        wait_until(
            lambda: running.one("SELECT count(*) = 0 FROM jobs_job WHERE state <> 'completed'"), 30
        )
        parts = parts_of(running, answers)
        return waves, [took for _, took in answers], parts, memory


def measure_peer(options):
    """Give what Salt takes, and a text about it; nothing where it is not installed."""
    if options.salt == 0 or not salt_peer.is_installed():
        return None, "peer not run (`python bench/salt_peer.py` installs Salt)"
    say(f"Salt with {options.agents} minions…")
    try:
        waves, memory = salt_peer.measure_salt(options.agents, options.salt)
    except Exception as error:
        return None, f"peer not run ({type(error).__name__})"
    text = (
        f"Salt `-b 10%` through its own client {spread(waves, digits=1)}, a minion "
        f"{statistics.median(memory) / MIB:.0f} MiB"
    )
    return (statistics.median(waves), statistics.median(memory)), text


def figures(floor, ours, peer, agents):
    """Make the rows of the table."""
    (bare_waves, bare_echo, bare_memory), (waves, answers, parts, memory) = floor, ours
    salt, salt_text = peer
    took, least = statistics.median(waves), statistics.median(bare_waves)
    beside_salt = f", {salt[0] / took:.0f}x faster than Salt" if salt else ""
    yield Figure(
        row="3",
        what=f"`hostname` on {agents} real agents in gated waves of 10%, submit to last result",
        goal=f"<= {WAVES_GOAL:.0f}x, >= {SALT_GOAL:.0f}x faster than Salt",
        figure=f"{took / least:.1f}x; {spread(waves)}{beside_salt}",
        met=took / least <= WAVES_GOAL and (not salt or salt[0] / took >= SALT_GOAL),
        method=f"bare websocket agents in the same waves: {spread(bare_waves)}; {salt_text}",
        why=(
            "ten waves one after the other, each with the durable steps of row 4; the floor stores "
            "nothing, signs nothing and starts no process"
        ),
    )
    p50, p99 = percentile(answers, 0.5), percentile(answers, 0.99)
    yield Figure(
        row="4",
        what="submit by REST to first result readable by REST, one node",
        goal=f"p50 <= {P50_GOAL * 1e3:.0f} ms, p99 <= {P99_GOAL * 1e3:.0f} ms",
        figure=f"p50 {p50 * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms",
        met=p50 <= P50_GOAL and p99 <= P99_GOAL,
        method=(
            f"{len(answers)} scripts, one after the other, {agents} agents connected; bare echo "
            f"through one agent's socket: p50 {percentile(bare_echo, 0.5) * 1e3:.1f} ms, "
            f"p99 {percentile(bare_echo, 0.99) * 1e3:.1f} ms; {parts}"
        ),
        why=(
            "seven durable steps one after the other (submit, decide, take up, start, end, report, "
            "read), by five processes and the client that share 2 cores"
        ),
    )
    own, bare = statistics.median(memory) / MIB, statistics.median(bare_memory) / MIB
    beside = f"; a third of a minion: {salt[1] / MIB / own:.1f}x" if salt else ""
    yield Figure(
        row="13",
        what="agent, idle: memory of its own (USS)",
        goal=f"<= {MEMORY_GOAL:.0f} MiB",
        figure=f"{spread(memory, 'MiB', 1 / MIB, 1)}, {own / bare:.1f}x",
        met=own <= MEMORY_GOAL,
        method=f"{agents} agents; bare asyncio + websockets agent {bare:.1f} MiB{beside}",
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--answers", type=int, default=100)
    parser.add_argument("--salt", type=int, default=3, help="rounds of Salt; 0 leaves it out")
    parser.add_argument("--calm", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    at_start = load()
    say(f"{options.agents} bare agents…")
    floor = asyncio.run(measure_floor(options.agents, options.rounds, 300))
    ours = measure(options)
    peer = measure_peer(options)
    record(list(figures(floor, ours, peer, options.agents)), at_start)


if __name__ == "__main__":
    main()

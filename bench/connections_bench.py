"""Rows 8 and 9: ten thousand connected agents, and all of them coming back at once.

One process holds all agents (bench/fleet.py) against the whole product; the same agents against
a bare server under the same uvicorn are the limit.
"""

import argparse
import asyncio
import contextlib
import multiprocessing
import resource
import statistics
import time
from dataclasses import dataclass, field

import ground  # noqa: F401 - puts the project on the path
import psutil
import uvloop
from ledger import Figure, load, percentile, record, spread

from bench.fleet import Fleet, enrol
from bench.whole import bare_server, say, whole
from tests.product import free_port

PAGES = ("/", "/jobs/", "/rollouts/", "/nodes/")
CPU_GOAL, MEMORY_GOAL = 10.0, 40.0
BACK_GOAL, PAGE_GOAL = 8.0, 1.0
# Seconds after which there is no more waiting.
CONNECT_LIMIT, RETURN_LIMIT = 240.0, 60.0
KIB = 1024


def possible(asked):
    """Give how many sockets this machine lets a process have; each end needs a descriptor."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(asked, hard - 500)


def used(process):
    """Give CPU seconds and own memory (bytes) of a process."""
    times = process.cpu_times()
    return times.user + times.system, process.memory_full_info().uss


async def watch_idle(fleet, process, seconds):
    """Give the share of one core (percent), by periods of one heartbeat each."""
    shares = []
    for _ in range(max(1, round(seconds / 10))):
        before, _ = used(process)
        await asyncio.sleep(10)
        shares.append((used(process)[0] - before) / 10 * 100)
    assert fleet.live == len(fleet.agents), fleet.refusals()
    return shares


async def come_back(fleet):
    """Cut everybody at once; give the seconds until the last one is welcomed again."""
    welcomed = [agent.welcomed for agent in fleet.agents]
    begin = time.perf_counter()
    fleet.cut()
    await fleet.until(
        lambda: (
            fleet.live == len(fleet.agents)
            and all(a.welcomed > before for a, before in zip(fleet.agents, welcomed, strict=True))
        ),
        RETURN_LIMIT,
    )
    return time.perf_counter() - begin


@dataclass(slots=True)
class Found:
    """What one server took for all agents: memory in KiB, CPU in percent, returns in seconds."""

    memory: float = 0.0
    shares: list = field(default_factory=list)
    returns: list = field(default_factory=list)
    connected_in: float = 0.0
    # Agents that had not come (back) when there was no more waiting.
    missing: int = 0


async def measure(url, process, members, options, settled):
    """Connect all agents, watch them idle, and cut them off some times."""
    fleet, found = Fleet(url, members), Found()
    _, empty = used(process)
    try:
        begin = time.perf_counter()
        await fleet.connect(CONNECT_LIMIT, at_once=200)
        found.connected_in = time.perf_counter() - begin
        say(f"{fleet.live:,} connected in {found.connected_in:.1f} s, {fleet.lost} retries")
        await settled()
        await asyncio.sleep(10)
        found.memory = (used(process)[1] - empty) / len(members) / KIB
        found.shares = await watch_idle(fleet, process, options.seconds)
        say(f"{found.memory:.1f} KiB a connection, CPU {statistics.median(found.shares):.1f}%")
        for _ in range(options.returns):
            with settled.watched():
                found.returns.append(await come_back(fleet))
            say(f"all back after {found.returns[-1]:.1f} s")
            await settled()
    except TimeoutError:
        found.missing = len(members) - fleet.live
        say(f"{found.missing:,} did not come: {dict(fleet.refusals())}")
    finally:
        await fleet.close()
    return found


class Unwatched:
    """The bare server has neither rows nor pages."""

    async def __call__(self):
        """There is nothing to wait for."""

    @contextlib.contextmanager
    def watched(self):
        """There is nothing to look at."""
        yield


class Settled:
    """Waits until the rows say what the sockets do, and lets a person look at pages meanwhile."""

    def __init__(self, running, cookie, count):
        self._running, self._cookie, self._count = running, cookie, count
        self.pages = []

    async def __call__(self):
        """Wait until every agent's row is connected and was heard of lately."""
        async with asyncio.timeout(RETURN_LIMIT):
            while await asyncio.to_thread(self._connected) < self._count:
                await asyncio.sleep(0.2)

    def _connected(self):
        return self._running.one(
            "SELECT count(*) FROM nodes_node JOIN nodes_nodepresence p ON p.node_id = nodes_node.id "
            "WHERE connection_state = 'connected' AND gateway <> '' "
            "AND last_seen_at > now() - interval '30 s'"
        )

    @contextlib.contextmanager
    def watched(self):
        """Have another process open pages all the time, as a person does."""
        spawn = multiprocessing.get_context("spawn")
        ours, theirs = spawn.Pipe()
        args = (theirs, self._running.url, self._cookie)
        viewer = spawn.Process(target=open_pages, args=args, daemon=True)
        viewer.start()
        try:
            ours.recv()
            yield
        finally:
            ours.send("enough")
            self.pages += ours.recv() if ours.poll(30) else []
            viewer.join(10)
            viewer.kill()


def open_pages(pipe, url, cookie):
    """Open pages one after the other until told that it is enough; send the seconds of each."""
    import httpx

    took = []
    with httpx.Client(base_url=url, cookies={"session": cookie}, timeout=60) as http:
        http.get("/")
        pipe.send("ready")
        while not pipe.poll():
            for path in PAGES:
                begin = time.perf_counter()
                assert http.get(path).status_code == 200, path
                took.append(time.perf_counter() - begin)
    pipe.send(took)


def sign_in(running):
    """Use the one-time link that `up` printed; give the session's cookie."""
    import re

    import httpx

    with httpx.Client(follow_redirects=True, timeout=30) as http:
        page = http.get(running.product.sign_in_url)
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)[1]
        http.post(str(page.url), data={"csrfmiddlewaretoken": token})
        return http.cookies["session"]


def of_bare(members, options):
    """Measure the bare server."""
    say(f"the bare server with {len(members):,} agents…")
    port = free_port()
    with bare_server(port) as process:
        url = f"http://127.0.0.1:{port}"
        return uvloop.run(measure(url, process, members, options, Unwatched()))


def of_product(options, count):
    """Measure the product; give the members too, so that the bare server gets the same."""
    with whole() as running:
        say(f"storing {options.nodes:,} nodes…")
        members = enrol(running.execute, count, agents=count, connection="disconnected")
        rest = options.nodes - count
        if rest > 0:
            enrol(running.execute, rest, prefix="row", connection="disconnected")
        running.execute("VACUUM ANALYZE nodes_node")
        web = psutil.Process(running.product.child("web").pid)
        settled = Settled(running, sign_in(running), count)
        return uvloop.run(measure(running.url, web, members, options, settled)), settled, members


def row_8(ours, bare, count, nodes):
    """Make the row of agents that only say that they are there."""
    figure, met = f"only {count - ours.missing:,} came in {CONNECT_LIMIT:.0f} s", False
    if ours.shares:
        share, bare_share = statistics.median(ours.shares), statistics.median(bare.shares)
        figure = (
            f"{spread(ours.shares, '%', digits=1)}, {share / max(bare_share, 0.1):.1f}x; "
            f"{ours.memory:.0f} KiB, {ours.memory / max(bare.memory, 0.1):.1f}x"
        )
        met = share <= CPU_GOAL and ours.memory <= MEMORY_GOAL
    return Figure(
        row="8",
        what=f"{count:,} connected agents that say every 10 s that they are there",
        goal=f"<= {CPU_GOAL:.0f}% of one core, <= {MEMORY_GOAL:.0f} KiB a connection",
        figure=figure,
        met=met,
        method=(
            f"CPU and USS of the web process, agents in one process, {nodes:,} nodes as rows; bare "
            f"websocket server under the same uvicorn: {spread(bare.shares, '%', digits=1)}, "
            f"{bare.memory:.0f} KiB"
        ),
        why=(
            f"the bare server takes {statistics.median(bare.shares):.1f}% to receive those frames; "
            "ours also reads each and writes who was heard once a second"
        ),
    )


def row_9(ours, bare, pages, count):
    """Make the row of agents that come back at once."""
    figure = f"{ours.missing:,} not back after {RETURN_LIMIT:.0f} s"
    figure += f", before that {spread(ours.returns, digits=1)}" if ours.returns else ""
    met = False
    if not ours.missing:
        back, p99 = statistics.median(ours.returns), percentile(pages, 0.99)
        figure = (
            f"{spread(ours.returns, digits=1)}, {back / statistics.median(bare.returns):.1f}x; "
            f"0 lost; pages p50 {percentile(pages, 0.5) * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms"
        )
        met = back <= BACK_GOAL and p99 <= PAGE_GOAL
    return Figure(
        row="9",
        what=f"{count:,} agents lose their sockets at once and come back, authenticated",
        goal=f"<= {BACK_GOAL:.0f} s, none lost, pages p99 <= {PAGE_GOAL:.0f} s",
        figure=figure,
        met=met,
        method=(
            "from the cut to the last welcome, the agents' own back-off (0.2 to 1 s at first) and "
            f"signatures included, on the same cores; {len(pages)} pages opened by another "
            f"process; the same agents against the bare server {spread(bare.returns, digits=1)}; "
            f"gently, 200 at a time, they came in {ours.connected_in:.0f} s"
        ),
        why=(
            f"against a server that does nothing the same agents take "
            f"{statistics.median(bare.returns):.1f} s here; the rest is looking up and writing "
            "each node, its inventory and its facts, in groups of 250, beside the pages"
        ),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--agents", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=50, help="how long to watch them idle")
    parser.add_argument("--returns", type=int, default=5, help="how often all are cut off")
    options = parser.parse_args()
    count = possible(options.agents)
    if count < options.agents:
        say(f"the limit of open files allows {count:,} agents, not {options.agents:,}")
    at_start = load()
    ours, settled, members = of_product(options, count)
    bare = of_bare(members, options)
    nodes = max(options.nodes, count)
    record([row_8(ours, bare, count, nodes), row_9(ours, bare, settled.pages, count)], at_start)


if __name__ == "__main__":
    main()

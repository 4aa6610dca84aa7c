"""Rows 18 and 19: how soon a report is seen in open pages, and how soon the next wave is on its way.

The whole product runs (`manage.py up`); five agents speak the real protocol from here, so that the
moment at which each frame leaves is known; five pages of the rollout are open in one chromium.
"""

import argparse
import asyncio
import logging
import os
import shutil
import time

import ground  # noqa: F401 - puts the project on the path
from ledger import Figure, load, percentile, record

AGENTS = PAGES = 5
LIMIT = 1.0
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
# Every change of a node's mark, with the moment at which it stood in the page.
WATCH = """() => {
    window.seen = [];
    const known = {};
    const look = () => {
        const at = (performance.timeOrigin + performance.now()) / 1000;
        for (const mark of document.querySelectorAll("a.mark")) {
            const name = mark.title.split(": ")[0];
            const kind = [...mark.classList].find((it) => it.startsWith("is-")).slice(3);
            if (known[name] === kind) continue;
            known[name] = kind;
            window.seen.push([name, kind, at]);
        }
    };
    look();
    new MutationObserver(look).observe(
        document.body, {subtree: true, childList: true, attributes: true});
}"""


class Clock:
    """When frames left, and when assignments came."""

    def __init__(self):
        self.sent = []
        self.waves = []


def fleet_of(product):
    """Enrol five nodes, whose agents are in this process, in the product's database."""
    os.environ.update(product.urls)
    os.environ.update(DATA=str(product.data), SECRET_KEY="only for benchmarks")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jobsite.settings")
    import django

    django.setup()
    from django.db import connections

    from tests.rollouts.agent_client import AgentClient
    from tests.rollouts.rows import make_node

    class TimedAgent(AgentClient):
        """An agent that notes when its assignments come."""

        async def _take(self, frame):
            known = set(self.assignments)
            await super()._take(frame)
            for execution_id in self.assignments.keys() - known:
                self.came[execution_id] = time.time()

    found = []
    url = product.url.replace("http", "ws") + "/agent/v1/session"
    for _ in range(AGENTS):
        node, private = make_node("default", labels={"bench": "live"})
        agent = TimedAgent(url, node.pk, private)
        agent.came, agent.name = {}, node.name
        found.append(agent)
    connections.close_all()
    return found


def spec(number):
    """The spec of a pipeline in waves of one node, different for each number."""
    health = {"deadline": "60s", "interval": "1s", "success_threshold": 1, "failure_threshold": 3}
    return {
        "name": "live-bench",
        "namespace": "default",
        "type": "pipeline",
        "selector": {"match_labels": {"bench": "live"}},
        "rollout": {"strategy": "rolling", "max_parallel": 20, "health_check": health},
        "config": {
            "input": {"generate": {"interval": "1s", "mapping": f"root = {number}"}},
            "output": {"drop": {}},
        },
    }


async def beat(agents):
    """Say every second that the agents are there."""
    while True:
        for agent in agents:
            await agent.heartbeat()
        await asyncio.sleep(1)


async def run_rollout(number, agents, pages, http, clock):
    """Roll one version out over all agents while the pages watch."""
    running = {agent: set(agent.assignments) for agent in agents}
    answer = await asyncio.to_thread(http.put, "/jobs", json=spec(number))
    answer.raise_for_status()
    rollout = {}
    while rollout.get("version") != number:
        rollout = (await asyncio.to_thread(http.get, "/jobs/live-bench/rollout")).json()
    for page in pages:
        await page.goto(f"/rollouts/{rollout['id']}/")
        await page.locator("a.mark").first.wait_for()
        await page.evaluate(WATCH)
    left_at, waiting = None, list(agents)
    while waiting:
        agent, execution_id = await next_assignment(waiting, running)
        waiting.remove(agent)
        if left_at is not None:
            clock.waves.append(agent.came[execution_id] - left_at)
        for old in running[agent]:
            await agent.state(old, "stopped")
        running[agent] = set(agent.assignments) - {execution_id}
        clock.sent.append((agent.name, "validating", time.time()))
        await agent.state(execution_id, "running")
        await shown(pages, agent.name, "validating")
        left_at = time.time()
        clock.sent.append((agent.name, "stable", left_at))
        await agent.window(execution_id, 1, seconds=1, messages_in=100, messages_ok=100)
        if not waiting:
            await shown(pages, agent.name, "stable")
    return await seen_in(pages)


async def next_assignment(waiting, before):
    """Wait for the next assignment that any of the agents gets."""
    async with asyncio.timeout(15):
        while True:
            for agent in waiting:
                if new := agent.came.keys() - before[agent]:
                    return agent, new.pop()
            await asyncio.sleep(0.002)


async def shown(pages, name, kind):
    """Wait until every page shows a node so."""
    script = "([name, kind]) => window.seen.some((it) => it[0] === name && it[1] === kind)"
    await asyncio.gather(
        *(page.wait_for_function(script, arg=[name, kind], timeout=10_000) for page in pages)
    )


async def seen_in(pages):
    """Give for each page when each node first looked so."""
    found = []
    for page in pages:
        first = {}
        for name, kind, at in await page.evaluate("window.seen"):
            first.setdefault((name, kind), at)
        found.append(first)
    return found


async def measure(product, seconds):
    """Give seconds from frame to page, and from last report to next assignment."""
    import httpx
    from playwright.async_api import async_playwright

    token = product.manage("create_token", "--user", "admin", "--name", "bench").split()[-1]
    http = httpx.Client(
        base_url=f"{product.url}/api/v1", headers={"Authorization": f"Bearer {token}"}, timeout=20
    )
    agents = await asyncio.to_thread(fleet_of, product)
    able = {"inputs": ["generate"], "processors": ["mapping"], "outputs": ["drop"]}
    for agent in agents:
        await agent.connect(capabilities=able, hostname=agent.name)
    beats = asyncio.create_task(beat(agents))
    clock, to_page = Clock(), []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = await browser.new_context(base_url=product.url)
        pages = [await context.new_page() for _ in range(PAGES)]
        await sign_in(pages[0], product)
        end, number = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            number += 1
            clock.sent.clear()
            seen = await run_rollout(number, agents, pages, http, clock)
            if number > 1:  # the first one warms everything up
                to_page += [
                    first[name, kind] - at for name, kind, at in clock.sent for first in seen
                ]
        await browser.close()
    beats.cancel()
    for agent in agents:
        await agent.close()
    return to_page, clock.waves, number - 1


async def sign_in(page, product):
    """Use the one-time link that `up` printed."""
    await page.goto(product.sign_in_url)
    button = page.locator("form button").first
    if "once" in page.url:
        await button.click()
        await page.wait_for_url(lambda url: "once" not in url)


def told(values):
    """Write the three numbers of a latency."""
    p50, p95 = percentile(values, 0.5), percentile(values, 0.95)
    return f"p50 {p50 * 1e3:.0f} ms, p95 {p95 * 1e3:.0f} ms, max {max(values) * 1e3:.0f} ms"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=40, help="how long to go on")
    seconds = parser.parse_args().seconds
    if CHROMIUM is None:
        print("no chromium: not run")
        return
    at_start = load()
    logging.getLogger("httpx").setLevel(logging.WARNING)
    from tests.product import Product

    with Product(agents=0) as product:
        to_page, waves, rollouts = asyncio.run(measure(product, seconds))
    method = f"{rollouts} rollouts in waves of 1 through the whole product, {{}}"
    record(
        [
            Figure(
                row="18",
                what=f"state frame of an agent to changed DOM, {AGENTS} agents, {PAGES} open pages",
                goal="p95 < 1 s",
                figure=told(to_page),
                met=percentile(to_page, 0.95) < LIMIT,
                method=method.format(f"{len(to_page)} changes seen by a MutationObserver"),
            ),
            Figure(
                row="19",
                what="last report of a wave to the next wave's assignment on its agent",
                goal="< 1 s",
                figure=told(waves),
                met=max(waves) < LIMIT,
                method=method.format(f"{len(waves)} waves"),
            ),
        ],
        at_start,
    )


if __name__ == "__main__":
    main()

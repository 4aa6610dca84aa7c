"""Row 10: from the commit of a change to the message in every open page of one rollout."""

import argparse
import asyncio
import os
import time

import ground  # noqa: F401 - puts the project on the path
import uvloop
from ledger import Figure, load, percentile, record

from bench.fleet import enrol
from bench.whole import bare_server, say, whole
from bench.wire import dial
from tests.product import free_port
from tests.waiting import wait_until

GOALS = {100: 0.100, 1000: 0.400}
OF_A_PERSON = 35  # a person may have 40 pages open
NODES = 100
QUIET = 1.0


class Viewers:
    """Open pages of one rollout, as their sockets see them."""

    def __init__(self):
        self.wires = []
        self.last_at = time.time()
        self._first = {}
        self._all = None
        self.text = ""

    async def open(self, port, path, headers, count):
        """Open so many pages, a hundred at the same time."""
        gate = asyncio.Semaphore(100)

        async def one(number):
            async with gate:
                wire = await dial(port, path, headers=headers[number % len(headers)])
            wire.listen(lambda text: self._hear(number, text))
            self.wires.append(wire)

        await asyncio.gather(*(one(number) for number in range(count)))

    def _hear(self, number, text):
        self.last_at = time.time()
        if self._all is not None and number not in self._first:
            self._first[number], self.text = self.last_at, text.decode()
            if len(self._first) == len(self.wires):
                self._all.set()

    async def quiet(self):
        """Wait until nothing has come for a while."""
        while (left := self.last_at + QUIET - time.time()) > 0:
            await asyncio.sleep(left)

    async def first_after(self, change):
        """Make a change; give the seconds from its moment to each viewer's first message."""
        await self.quiet()
        self._first, self._all = {}, asyncio.Event()
        changed_at = await change()
        async with asyncio.timeout(30):
            await self._all.wait()
        self._all = None
        return [at - changed_at for at in self._first.values()]

    def close(self):
        """Close every page."""
        for wire in self.wires:
            wire.cut()


def prepare(running):
    """Use the product's rows from here; a rollout with a first wave in flight, and people."""
    os.environ.update(running.product.urls)
    os.environ.update(DATA=str(running.data), SECRET_KEY="only for benchmarks")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jobsite.settings")
    key = running.data / "secret_key"
    if key.exists():  # the sessions made here must be the web's own
        os.environ["SECRET_KEY"] = key.read_text().strip()
    import django

    django.setup()
    enrol(running.execute, NODES)
    health = {"deadline": "1h", "interval": "10s", "success_threshold": 2, "failure_threshold": 3}
    spec = {
        "name": "seen",
        "type": "pipeline",
        "selector": {"match_labels": {"role": "gateway"}},
        "rollout": {"strategy": "rolling", "max_parallel": 10, "health_check": health},
        "config": {"input": {"generate": {"interval": "1s"}}, "output": {"drop": {}}},
    }
    job = running.submit(spec)
    statement = "SELECT id FROM rollouts_rollout WHERE job_id = %s AND state = 'active'"
    rollout = wait_until(lambda: running.execute(statement, [job]), 20, "no rollout")[0][0]
    return job, rollout


def people(count, url):
    """Sign people in who may read the namespace; give the headers of each one's browser."""
    from django.conf import settings
    from django.test import Client

    from access.models import Namespace
    from tests.factories import RoleBindingFactory, UserFactory

    space, headers = Namespace.objects.get(name="default"), []
    for number in range(count):
        user = UserFactory(username=f"viewer-{number}")
        RoleBindingFactory(user=user, role="read", namespace=space)
        client = Client()
        client.force_login(user)
        cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
        name = settings.SESSION_COOKIE_NAME
        headers.append(f"Cookie: {name}={cookie}\r\nOrigin: {url}\r\n")
    return headers


def hold_or_go_on(job, is_paused):
    """Pause or resume the rollout; give the moment of the commit."""
    from django.db import transaction

    from access.services import Actor
    from rollouts.services import pause_rollout, resume_rollout

    moment = []
    with transaction.atomic():
        # Before the announcement, which is a hook of the same commit.
        transaction.on_commit(lambda: moment.append(time.time()))
        (resume_rollout if is_paused else pause_rollout)(Actor(name="bench"), job)
    return moment[0]


async def watch_product(running, job, rollout, headers, *, count, rounds):
    """Give the seconds from commits to messages, and the last message."""
    viewers, paused = Viewers(), False
    port = running.product.port
    try:
        await viewers.open(port, f"/ws/live/rollout/{rollout}/", headers, count)
        seconds = []
        for number in range(rounds + 1):

            async def change(paused=paused):
                return await asyncio.to_thread(hold_or_go_on, job, paused)

            took = await viewers.first_after(change)
            paused = not paused
            seconds += took if number else []
        if paused:
            await asyncio.to_thread(hold_or_go_on, job, paused)
        return seconds, viewers.text
    finally:
        viewers.close()


async def watch_bare(port, text, count, rounds):
    """Give the seconds from one socket's text to all of them."""
    viewers = Viewers()
    try:
        await viewers.open(port, "/fan", [""], count)
        seconds = []
        for number in range(rounds + 1):

            async def change():
                viewers.wires[0].send(text)
                return time.time()

            took = await viewers.first_after(change)
            seconds += took if number else []
        return seconds
    finally:
        viewers.close()


def measure(sizes, rounds):
    """Give, by the number of viewers, our seconds, the limit's, and the bytes of a message."""
    found = {}
    # The rows that stand for nodes stay connected.
    with whole(DISCONNECTED_AFTER=7200, LOST_AFTER=14400) as running:
        job, rollout = prepare(running)
        headers = people(-(-max(sizes) // OF_A_PERSON), running.url)
        for count in sizes:
            say(f"{count:,} viewers of one rollout…")
            watched = watch_product(running, job, rollout, headers, count=count, rounds=rounds)
            found[count] = uvloop.run(watched)
            say(f"p99 {percentile(found[count][0], 0.99) * 1e3:.0f} ms")
        from django.db import connections

        for connection in connections.all():
            connection.close()
            connection.close_pool()
    port = free_port()
    with bare_server(port):
        for count, (seconds, text) in found.items():
            bare = uvloop.run(watch_bare(port, text, count, rounds))
            found[count] = seconds, bare, len(text.encode())
    return found


def told(values):
    """Write two numbers of a latency."""
    return (
        f"p50 {percentile(values, 0.5) * 1e3:.0f} ms, p99 {percentile(values, 0.99) * 1e3:.0f} ms"
    )


def figures(found, rounds):
    """Make the rows of the table."""
    for count, (seconds, bare, size) in found.items():
        goal = GOALS.get(count, max(GOALS.values()))
        ratio = percentile(seconds, 0.99) / percentile(bare, 0.99)
        yield Figure(
            row="10" if count == min(found) else f"10{'bcd'[list(found).index(count) - 1]}",
            what=f"commit of a change to the message in {count:,} open pages of one rollout",
            goal=f"p99 <= {goal * 1e3:.0f} ms",
            figure=f"{told(seconds)}, {ratio:.1f}x",
            met=percentile(seconds, 0.99) <= goal,
            method=(
                f"{rounds} changes through the services, {len(seconds):,} messages of "
                f"{size / 1000:.1f} kB, all viewers in one process; raw fan-out of the same text "
                f"by a bare server: {told(bare)}"
            ),
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--viewers", type=int, nargs="+", default=sorted(GOALS))
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    at_start = load()
    found = measure(options.viewers, options.rounds)
    record(list(figures(found, options.rounds)), at_start)


if __name__ == "__main__":
    main()

"""Inflicts the faults of a schedule on a running product, and remembers what was done when."""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg

from bench.chaos import namespace
from bench.chaos.replay import replay
from bench.chaos.schedule import OFFSETS

RECOVERY = 60.0
# Faults after which the process itself has another life.
ENDING = (".kill", ".term", ".wipe", "postgres.restart")
# All agents at once are one victim.
HERD = "every agent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """When something could not work, in Unix time."""

    kind: str
    name: str
    start: float
    end: float


class Faults:
    """Carries out faults; each chooses its victim among those that no other fault holds."""

    def __init__(self, product, *, faketime="", own_network=False):
        self.product = product
        self.faketime = faketime
        self.own_network = own_network
        self.replayed = 0
        self.done = Counter()
        self.skipped = Counter()
        self.spans = []
        self._held = set()
        self._tasks = set()

    @property
    def impossible(self):
        """Give the kinds that cannot be done here, each with its reason."""
        found = {}
        if not self.product.mounted:
            found["disk.full"] = "no tmpfs may be mounted here"
        if not self.own_network:
            found["net.lost"] = "there is no network namespace of our own (root and `ip`)"
        if not self.faketime:
            found["clock.shift"] = "there is no libfaketime (FAKETIME_LIB)"
        return found

    async def run(self, schedule):
        """Carry out a schedule in its times; return when the last fault is over and healed."""
        start = time.monotonic()
        for fault in schedule:
            await asyncio.sleep(max(0.0, start + fault.at - time.monotonic()))
            task = asyncio.create_task(self._inflict(fault))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await asyncio.gather(*self._tasks)

    async def _inflict(self, fault):
        part, _, what = fault.kind.partition(".")
        name = self._choose(fault)
        if name is None:
            self.skipped[fault.kind] += 1
            return
        self._held.add(name)
        start, life = time.time(), self._life(name)
        try:
            act = getattr(self, f"_{part}_{what}", None) or getattr(self, f"_{what}")
            if await act(name, fault) is False:
                self.skipped[fault.kind] += 1
                return
            self.done[fault.kind] += 1
            if fault.kind.endswith(ENDING):
                await self._ended(name, life)
            await self._recovered(name)
        finally:
            self._held.discard(name)
            self.spans.append(Span(kind=fault.kind, name=name, start=start, end=time.time()))

    def _choose(self, fault):
        part = fault.kind.partition(".")[0]
        if part == "disk":
            names = [folder.name for folder in self.product.mounted]
        elif part == "herd":
            names = [HERD]
        else:
            # The network, the clock and the disk are faults of an agent.
            names = self.product.named(part if part not in ("net", "clock") else "agent")
        free = sorted(set(names) - self._held)
        return free[int(fault.pick * len(free))] if free else None

    def _life(self, name):
        return None if name == HERD else self.product.children[name].pid

    async def _ended(self, name, life):
        """Wait until a process that was told to end has done so."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RECOVERY):
                while life is not None and self._life(name) == life:
                    await asyncio.sleep(0.05)

    async def _recovered(self, name):
        """Wait until the process stands again, so that it is not hit while it is down."""
        if name == HERD:
            return
        child = self.product.children[name]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RECOVERY):
                while not await child._is_ready():
                    await asyncio.sleep(0.1)

    # --- any process ---------------------------------------------------------------------------------

    async def _kill(self, name, fault):
        return self.product.signal(name, signal.SIGKILL)

    async def _term(self, name, fault):
        return self.product.signal(name, signal.SIGTERM)

    async def _stop(self, name, fault):
        """Pause a process, which is worse than its death: it wakes up and goes on."""
        pid = self.product.children[name].pid
        if pid is None:
            return False
        family = [pid]
        with contextlib.suppress(psutil.Error):
            if name.startswith(("worker", "postgres")):
                family += [child.pid for child in psutil.Process(pid).children(recursive=True)]
        for member in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(member, signal.SIGSTOP)
        await asyncio.sleep(fault.lasts)
        for member in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(member, signal.SIGCONT)
        return True

    # --- the worker's pool -----------------------------------------------------------------------------

    async def _worker_kill(self, name, fault):
        """The parent and its pool at once, as the kernel does it when memory runs out."""
        pid = self.product.children[name].pid
        if pid is None:
            return False
        with contextlib.suppress(psutil.Error):
            for member in [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]:
                member.kill()
        return True

    async def _worker_child(self, name, fault):
        pid = self.product.children[name].pid
        with contextlib.suppress(psutil.Error):
            pool = psutil.Process(pid).children() if pid else []
            if pool:
                pool[fault.number % len(pool)].kill()
                return True
        return False

    # --- PostgreSQL and Valkey ---------------------------------------------------------------------------

    async def _postgres_crash(self, name, fault):
        """Kill one of its backends: all connections go, and it recovers from its log."""
        pid = self.product.children[name].pid
        with contextlib.suppress(psutil.Error):
            backends = psutil.Process(pid).children() if pid else []
            if backends:
                backends[fault.number % len(backends)].kill()
                return True
        return False

    async def _postgres_restart(self, name, fault):
        """The `immediate` stop, which is a crash by another name."""
        return self.product.signal(name, signal.SIGQUIT)

    async def _postgres_cut(self, name, fault):
        """End every session at once."""
        try:
            where = await psycopg.AsyncConnection.connect(
                self.product.database, autocommit=True, connect_timeout=3
            )
            async with where:
                await where.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
                )
        except psycopg.Error:
            return False
        return True

    async def _postgres_crowd(self, name, fault):
        """Take every connection that it has to give, so that it turns everybody else away."""
        held = []
        try:
            with contextlib.suppress(psycopg.Error):
                while True:
                    held.append(
                        await psycopg.AsyncConnection.connect(
                            self.product.database, connect_timeout=3
                        )
                    )
            await asyncio.sleep(fault.lasts)
        finally:
            await asyncio.gather(*(line.close() for line in held), return_exceptions=True)
        return bool(held)

    async def _valkey_wipe(self, name, fault):
        """Kill it and delete all that it wrote."""
        folder = Path(self.product.stack.store) / "valkey"
        if not self.product.signal(name, signal.SIGSTOP):
            return False
        self.product.signal(name, signal.SIGKILL)
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        return True

    async def _valkey_flush(self, name, fault):
        try:
            async with asyncio.timeout(3):
                path = str(self.product.stack.run / "valkey.sock")
                reader, writer = await asyncio.open_unix_connection(path)
                writer.write(b"FLUSHALL\r\n")
                answer = await reader.readline()
                writer.close()
        except (OSError, TimeoutError):
            return False
        return answer.startswith(b"+OK")

    # --- the network of one agent -----------------------------------------------------------------------

    async def _net_reset(self, name, fault):
        self.product.links[name].reset()

    async def _net_down(self, name, fault):
        """Away: connections end, and new ones are refused."""
        link = self.product.links[name]
        link.is_away = True
        link.reset()
        await self._healed_later(name, fault)

    async def _net_mute(self, name, fault):
        """Half a partition: nobody hears what the agent says."""
        self.product.links[name].silent.add("up")
        await self._healed_later(name, fault)

    async def _net_deaf(self, name, fault):
        """The other half: the agent hears nothing."""
        self.product.links[name].silent.add("down")
        await self._healed_later(name, fault)

    async def _net_slow(self, name, fault):
        self.product.links[name].latency = 0.05 + fault.number % 500 / 1000
        await self._healed_later(name, fault)

    async def _net_torn(self, name, fault):
        """Cut in the middle of a frame or of its acknowledgement, whichever comes."""
        self.product.links[name].cut_after = fault.number % 2000

    async def _net_lost(self, name, fault):
        """Packets vanish; no byte is missing in the end, and nobody is told that the line is dead."""
        host = self.product.links[name].host
        namespace.drop_packets_to(host)
        await asyncio.sleep(fault.lasts)
        namespace.deliver_packets_to(host)

    async def _net_replay(self, name, fault):
        """Take the agent's place and say again, ten times in any order, what was committed."""
        link = self.product.links[name]
        if link.tape.hello is None:
            return False
        link.is_away = True
        link.reset()
        folder = self.product.plan.data / "agents" / name
        said = await replay(link.tape, folder, self.product.ports, random.Random(fault.number))
        link.heal()
        self.replayed += said
        return bool(said)

    # --- every agent at once -----------------------------------------------------------------------------

    async def _herd_reset(self, name, fault):
        for link in self.product.links.values():
            link.reset()

    async def _herd_down(self, name, fault):
        """Nobody gets through; then all come back at the same time."""
        for link in self.product.links.values():
            link.is_away = True
            link.reset()
        await asyncio.sleep(fault.lasts)
        for link in self.product.links.values():
            link.is_away = False

    async def _healed_later(self, name, fault):
        await asyncio.sleep(fault.lasts)
        self.product.links[name].heal()

    # --- an agent's disk and clock ------------------------------------------------------------------------

    async def _disk_full(self, name, fault):
        ballast = self.product.plan.data / "agents" / name / "ballast"
        await asyncio.to_thread(_fill, ballast)
        await asyncio.sleep(fault.lasts)
        ballast.unlink()

    async def _clock_shift(self, name, fault):
        """Start the agent anew with another idea of the time, and later with the right one."""
        environment = self.product.environments[name]
        offset = OFFSETS[fault.number % len(OFFSETS)]
        environment.update(
            LD_PRELOAD=self.faketime, FAKETIME=f"{offset:+d}s", FAKETIME_DONT_FAKE_MONOTONIC="1"
        )
        life = self._life(name)
        self.product.signal(name, signal.SIGKILL)
        await self._ended(name, life)
        await self._recovered(name)
        await asyncio.sleep(fault.lasts)
        for variable in ("LD_PRELOAD", "FAKETIME", "FAKETIME_DONT_FAKE_MONOTONIC"):
            environment.pop(variable)
        life = self._life(name)
        self.product.signal(name, signal.SIGKILL)
        await self._ended(name, life)

    async def heal(self):
        """End whatever may still be wrong, and wait until every process stands."""
        for name in self.product.children:
            self.product.signal(name, signal.SIGCONT)
        for link in self.product.links.values():
            link.heal()
        await asyncio.gather(*(self._recovered(name) for name in self.product.children))


def _fill(path):
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)

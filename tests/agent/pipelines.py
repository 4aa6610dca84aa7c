"""What the tests of real pipelines share: a recorder in the supervisor's place, and a start."""

import asyncio
import time
from pathlib import Path

import pytest

from agent.runners.base import Order
from agent.runners.pipeline import PipelineRunner

engine = [pytest.mark.engine, pytest.mark.timeout(300)]
pytest.importorskip("mq_bridge_connect")


class Recorder:
    """Keeps what a runner reports."""

    def __init__(self):
        self.started = time.monotonic()
        self.up_after = None
        self.windows = []
        self.lines = {"stdout": [], "stderr": [], "engine": []}

    def up(self):
        assert self.up_after is None, "up was reported twice"
        self.up_after = time.monotonic() - self.started

    def window(self, w):
        self.windows.append(w)

    def log(self, stream, lines):
        self.lines[stream] += lines

    def total(self, name):
        return sum(getattr(window, name) for window in self.windows)


async def until(condition, within=60.0):
    """Wait for a condition; fails when it does not hold in time."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "the condition did not hold in time"
        await asyncio.sleep(0.02)


def alive_in_group(group):
    """Return the processes of a group that are not merely waiting to be reaped."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] not in "ZX":
            found.append(int(folder.name))
    return found


def generate(count=0, interval="10ms", mapping="root.id = counter()"):
    return {"generate": {"count": count, "interval": interval, "mapping": mapping}}


class Pipelines:
    """Starts pipelines for one test and ends what is left of them."""

    def __init__(self, folder):
        self._folder = folder
        self._works = []
        self.runner = PipelineRunner()

    async def start(self, config, **more):
        report = Recorder()
        order = Order(
            execution_id=f"e{len(self._works)}",
            attempt=1,
            job_type="pipeline",
            config=config,
            workdir=self._folder / f"work{len(self._works)}",
            **{"interval": 0.5, **more},
        )
        work = await self.runner.start(order, report)
        self._works.append(work)
        return work, report

    async def run(self, config, **more):
        work, report = await self.start(config, **more)
        return await asyncio.wait_for(work.wait(), 120), report

    async def close(self):
        for work in self._works:
            await work.stop(0.0)

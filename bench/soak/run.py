"""One soak: start the product, put it under an hour's work in minutes, measure, judge, report."""

import asyncio
import re
import time
from dataclasses import dataclass, field

from bench.soak.bells import ring_first
from bench.soak.gauges import Gauges, limit_of
from bench.soak.judge import FEWEST, Series, judge
from bench.soak.load import Load
from tests.product import Product

# How much faster than by default nodes are heard and what is due is looked for.
HASTE = 12
HEARTBEAT, SWEEP = 10, 1
SAMPLE_EVERY = 2.0
# Modules are loaded, pools filled and buffers grown in the first part.
WARM_UP = 0.4
PASSWORD = "soaking in warm water"
ACCOUNT = (
    "from django.contrib.auth.models import User; "
    f"User.objects.create_superuser('soak', password='{PASSWORD}')"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a run is asked for."""

    data: str | None = None
    seconds: float = 540.0
    agents: int = 3
    port: int | None = None

    @property
    def hours(self):
        """How long the product would take for as many heartbeats and sweeps by default."""
        return self.seconds * HASTE / 3600


@dataclass(slots=True)
class Sample:
    """Everything at one moment."""

    at: float
    values: dict
    work: dict


@dataclass(slots=True)
class Report:
    """What a run found."""

    options: Options
    verdicts: list = field(default_factory=list)
    done: dict = field(default_factory=dict)
    wrong: list = field(default_factory=list)
    hot: list = field(default_factory=list)

    @property
    def is_flat(self):
        """Say whether nothing grew and nothing went wrong."""
        return bool(self.verdicts) and not self.wrong and all(v.is_flat for v in self.verdicts)

    def text(self):
        """Return the report as a person reads it."""
        hours = f"{self.options.hours:.1f} h of heartbeats and sweeps in {self.options.seconds:g} s"
        done = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.done.items()))
        lines = [f"{hours}: {done}", *(verdict.words for verdict in self.verdicts)]
        lines += [
            f"{name}: {updates:,} updates, {share:.0f} % in place (HOT), {dead} dead, "
            f"{vacuums} vacuums"
            for name, updates, share, dead, vacuums in self.hot
        ]
        lines += [f"WRONG {text}" for text in self.wrong[:10]]
        growing = sum(not verdict.is_flat for verdict in self.verdicts)
        lines.append(f"{len(self.verdicts)} gauges, {growing} grow, {len(self.wrong)} went wrong")
        return "\n".join(lines)


async def soak(options):
    """Run once and return the report."""
    # A pool that is renewed is never seen to grow, and looks so while it is.
    environment = {
        "HEARTBEAT_INTERVAL": HEARTBEAT / HASTE,
        "SWEEP_INTERVAL": SWEEP / HASTE,
        "WORKER_TASKS": 0,
    }
    report = Report(options)
    with Product(options.data, agents=options.agents, port=options.port, **environment) as product:
        product.manage("shell", "-c", ACCOUNT)
        token = product.manage("create_token", "--user", "soak", "--name", "soak").split()[-1]
        load = Load(product.url, token, "soak", PASSWORD)
        gauges = Gauges(product, options.agents)
        try:
            await asyncio.to_thread(ring_first, product.urls["REDIS_URL"], gauges.bells)
            samples = await _measure(options, load, gauges)
            report.hot = gauges.hot()
        finally:
            gauges.close()
            await load.close()
        report.done, report.wrong = dict(load.done), load.wrong
        report.wrong += _restarts(product.log.read_text(errors="replace"))
    report.verdicts = list(_verdicts(options, samples))
    return report


async def _measure(options, load, gauges):
    await load.prepare()
    began, samples = time.monotonic(), []
    async with asyncio.TaskGroup() as group:
        people = group.create_task(load.run())
        while (at := time.monotonic() - began) < options.seconds:
            values = await asyncio.to_thread(gauges.read)
            samples.append(Sample(at, values, _work(at, load, *gauges.work())))
            await asyncio.sleep(SAMPLE_EVERY)
        people.cancel()
    return samples


def _work(at, load, frames, decisions):
    """Return the units of work so far, by kind of process."""
    asked = load.done["pages"] + load.done["lists"] + load.done["sign-ins"] + load.done["sockets"]
    beats = at * HASTE / HEARTBEAT
    # Three of beat's bells ring at each sweep.
    rings = 3 * at * HASTE / SWEEP
    return {
        "web": asked + frames + rings / 3,
        "worker": rings + decisions,
        "beat": rings,
        "edge": frames + beats,
    }


def _verdicts(options, samples):
    warm = [sample for sample in samples if sample.at >= WARM_UP * options.seconds]
    days = (warm[-1].at - warm[0].at) * HASTE / 86400
    for gauge in warm[0].values:
        kind = gauge.partition(" ")[0].partition("-")[0]
        part = kind if kind in warm[0].work else "web"
        points = tuple(
            (sample.work[part], sample.values[gauge]) for sample in warm if gauge in sample.values
        )
        limit, unit = limit_of(gauge)
        if len(points) < FEWEST:
            raise SystemExit(f"{gauge}: {len(points)} points; let it run for longer")
        done = points[-1][0] - points[0][0]
        series = Series(
            name=gauge,
            unit=unit,
            work=WORDS[part],
            units_per_day=done / days,
            points=points,
        )
        yield judge(series, limit)


WORDS = {
    "web": "requests, frames and sweeps",
    "worker": "rings and decisions",
    "beat": "rings",
    "edge": "frames and heartbeats",
}


def _restarts(log):
    """Give what `up` says of processes that died: the gauges of a new one prove nothing."""
    return re.findall(r"^.*starts again in .*$", log, re.MULTILINE)

"""Judges whether a gauge grows with the work done: least squares, a limit, and words."""

from dataclasses import dataclass

BUCKETS = 8
FEWEST = 3 * BUCKETS
PER = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How much a gauge may rise per 1,000 units of work; a rise below `noise` says nothing."""

    per_thousand: float
    noise: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One gauge over the work done: what it is of, its unit, and how much work a day brings."""

    name: str
    unit: str
    work: str
    units_per_day: float
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was found of one gauge; `is_flat` is the answer, `words` says it."""

    is_flat: bool
    per_thousand: float
    per_day: float
    words: str


def slope_of(points):
    """Return the least-squares slope of (x, y) points; 0 when all x are equal."""
    count = len(points)
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if not spread:
        return 0.0
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread


def floors_of(points):
    """Return the lowest point of each of eight equal stretches of the work.

    Garbage waits for its collector, dead rows for the vacuum, and a pool's process for the end of
    its tasks: what counts is the level to which a gauge falls back.
    """
    (first, _), (last, _) = points[0], points[-1]
    width = (last - first) / BUCKETS
    buckets = {}
    for x, y in points:
        number = min(BUCKETS - 1, int((x - first) / width))
        buckets[number] = min(buckets.get(number, (x, y)), (x, y), key=lambda point: point[1])
    return [buckets[number] for number in sorted(buckets)]


def judge(series, limit):
    """Judge a series that begins after the warm-up, by the floors of its stretches.

    What grows does so in the whole and in both halves: one step, such as a module loaded late or a
    buffer that found its size, lies in one half and is no leak. Raises ValueError for too few
    points, and for a gauge during which no work was done: neither would prove anything.
    """
    points = series.points
    if len(points) < FEWEST:
        raise ValueError(f"{series.name}: {len(points)} points say nothing")
    done = points[-1][0] - points[0][0]
    if done <= 0:
        raise ValueError(f"{series.name}: no {series.work} in this time")
    floors = floors_of(points)
    half = len(floors) // 2
    per_thousand = PER * slope_of(floors)
    steady = PER * min(slope_of(floors[:half]), slope_of(floors[half:]))
    rise = per_thousand * done / PER
    grows = (
        rise > limit.noise and per_thousand > limit.per_thousand and steady > limit.per_thousand / 2
    )
    per_day = per_thousand * series.units_per_day / PER
    return Verdict(
        is_flat=not grows,
        per_thousand=per_thousand,
        per_day=per_day,
        words=_words(series, limit, grows, per_thousand, per_day),
    )


def _words(series, limit, grows, per_thousand, per_day):
    unit = f" {series.unit}" if series.unit else ""
    (began, first), (ended, last) = series.points[0], series.points[-1]
    return (
        f"{'GROWS ' if grows else ''}{series.name}: {first:,.0f} to {last:,.0f}{unit} over "
        f"{ended - began:,.0f} {series.work}, {per_thousand:+,.1f}{unit} per 1,000 "
        f"(limit {limit.per_thousand:g}), {per_day:+,.0f}{unit} a day"
    )

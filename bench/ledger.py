"""The table of figures: bench/RESULTS.md, one row for each measured goal, the newest wins."""

import math
import os
import platform
import re
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")
HEAD = """# Figures

Written by `make bench`; `make bench ROW=7` measures one row anew. A figure is a median with its
spread (smallest to largest); where it says "x", it is a ratio to the limit named beside it, taken
in the same run. Rows 1 to 17 are the performance budget, 18 and 19 what a person sees.

| row | what | goal | figure | verdict | limit and method | load | when |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured goal; `met` is None where there is no goal to meet.

    `why` says what the limit is, and stands beside the row as long as the goal is not met.
    """

    row: str
    what: str
    goal: str
    figure: str
    met: bool | None
    method: str
    why: str = ""


def load():
    """Return the load average of the last minute: what else ran on this computer."""
    return f"{os.getloadavg()[0]:.1f}"


def spread(values, unit="s", scale=1.0, digits=2):
    """Write a median and its spread."""
    low, middle, high = (
        f"{scale * value:.{digits}f}"
        for value in (min(values), statistics.median(values), max(values))
    )
    return f"{middle} {unit} ({low} to {high})"


def percentile(values, share):
    """Return the value below which `share` of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def exponent(points):
    """Fit seconds = a * size ** b through (size, seconds) in log-log; return b."""
    logs = [(math.log(size), math.log(seconds)) for size, seconds in points]
    xs, ys = ([pair[i] for pair in logs] for i in (0, 1))
    return statistics.linear_regression(xs, ys).slope


def record(figures, load_at_start):
    """Print figures and put them into the table in place of the older ones."""
    rows = dict(_read())
    for figure in figures:
        verdict = {True: "met", False: "**not met**", None: "-"}[figure.met]
        print(f"{figure.row:>4} {figure.what}: {figure.figure} (goal {figure.goal}): {verdict}")
        cells = (
            figure.row,
            figure.what,
            figure.goal,
            figure.figure,
            verdict,
            figure.method if figure.met is not False else _with_reason(figure),
            load_at_start,
            time.strftime("%Y-%m-%d"),
        )
        rows[figure.row] = f"| {' | '.join(cells)} |"
    lines = [rows[row] for row in sorted(rows, key=_order)]
    RESULTS.write_text(HEAD + "\n".join(lines) + "\n\n" + _machine() + "\n")


def _with_reason(figure):
    return f"{figure.method}. **Why not:** {figure.why}" if figure.why else figure.method


def _read():
    if RESULTS.exists():
        for line in RESULTS.read_text().splitlines():
            if found := re.match(r"\| (\d+\w*) \|", line):
                yield found[1], line


def _order(row):
    number = re.match(r"\d+", row)[0]
    return int(number), row


def _machine():
    return f"{os.cpu_count()} cores, CPython {platform.python_version()}, {platform.machine()}."

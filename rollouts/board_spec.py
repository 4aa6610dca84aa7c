"""What a rollout's page says of its version: the diff, the spec, and the terms it goes by."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from jobs.diff import semantic_diff, text_diff
from jobs.models import JobVersion
from jobs.spec import JobSpec
from rollouts.board import Board


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffLine:
    """One line of a text diff, with its numbers in the old and the new text."""

    css: str
    sign: str
    old: int | None
    new: int | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecView:
    """What a version changes, in words and in lines, and its whole text."""

    old: int
    new: int
    # Effect and summary of each change, the strongest first.
    changes: tuple[tuple[str, str], ...]
    lines: tuple[DiffLine, ...]
    text: str


def spec_view(board: Board) -> SpecView:
    """Return the difference between a rollout's version and the one that it took over from."""
    rollout = board.rollout
    before = JobVersion.objects.filter(
        job_id=rollout.job_id, number=rollout.rollback_to_version or rollout.version.number - 1
    ).first()
    new = JobSpec.model_validate(rollout.version.spec)
    old = JobSpec.model_validate(before.spec) if before else None
    return SpecView(
        old=before.number if before else 0,
        new=rollout.version.number,
        changes=tuple((change.effect.value, change.summary) for change in semantic_diff(old, new))
        if old
        else (),
        lines=tuple(diff_lines(text_diff(old, new))) if old else (),
        text=rollout.version.source_text or new.to_yaml(),
    )


_HUNK = re.compile(r"@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@(.*)")


def diff_lines(text: str) -> Iterable[DiffLine]:
    """Read a unified diff line by line; the two lines that name the files are left out."""
    old = new = 0
    for line in text.splitlines()[2:]:
        hunk = _HUNK.match(line)
        if hunk:
            old, new = int(hunk[1]), int(hunk[2])
            yield DiffLine(css="hunk", sign="", old=None, new=None, text=f"line {new}")
        elif line.startswith("+"):
            yield DiffLine(css="add", sign="+", old=None, new=new, text=line[1:])
            new += 1
        elif line.startswith("-"):
            yield DiffLine(css="del", sign="-", old=old, new=None, text=line[1:])
            old += 1
        else:
            yield DiffLine(css="", sign="", old=old, new=new, text=line[1:])
            old, new = old + 1, new + 1


def parameters_of(board: Board) -> Mapping[str, str]:
    """Return the terms of a rollout as words: pace, limits, health, order, deadlines."""
    rollout, policy, health = board.rollout, board.terms.policy, board.terms.health
    order = board.terms.order
    seconds = health.interval.total_seconds()
    rows = {
        "Type": rollout.rollout_type,
        "Strategy": rollout.strategy,
        "max_parallel": f"{policy.max_parallel}%, {rollout.wave_size} nodes a wave",
        "Canaries": str(rollout.canary_size) if rollout.canary_size else "none",
        "auto_promote": "yes" if policy.auto_promote else "no, a person promotes",
        "max_failed_nodes": str(policy.max_failed_nodes),
        "max_failed_nodes_percent": f"{float(policy.max_failed_nodes_percent):g}%",
        "Automatic rollback": "on" if policy.auto_rollback else "off",
        "Order of nodes": f"{order.by} {order.label}".strip(),
        "Start deadline": f"{board.terms.start_deadline.total_seconds():g} s",
    }
    if board.terms.validates:
        rows |= {
            "Health window": f"every {seconds:g} s",
            "max_error_rate": f"{float(health.max_error_rate) * 100:g}%",
            "success_threshold": f"{health.success_threshold} good windows in a row",
            "failure_threshold": f"{health.failure_threshold} bad windows in a row",
        }
    return rows

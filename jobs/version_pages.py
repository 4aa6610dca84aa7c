"""The tab of a job's versions: what became of each, what it changed, and the way back to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.http import QueryDict

from access.problems import Refused
from access.queries import Person, may
from access.rest import paginate, read_page
from jobs.changes import Difference, difference, spec_of
from jobs.models import Job, JobVersion
from jobs.planning import Outcome, plan_spec, version_outcomes
from jobs.queries import version_of, versions_of
from jobs.states import JobState

ROLL_BACK = "rollout:write"


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRow:
    """One version: what became of it, and what it changed against the one before."""

    number: int
    cause: str
    rolled_back_from: int | None
    reason: str
    created_by: str
    created_at: datetime
    is_current: bool
    is_stable: bool
    outcome: Outcome | None
    # The version that took a bad one back, if that was what came next.
    taken_back_by: int | None
    # None for the first one.
    changes: int | None
    effect: str
    # Its spec differs from the present one, so that a rollback to it would do something.
    is_different: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GoingBack:
    """What is asked before a job returns to an earlier version."""

    number: int
    new_number: int
    nodes: int
    waves: int
    outcome: Outcome | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionsView:
    """One page of versions, and the difference of two of them if it was asked for."""

    rows: tuple[VersionRow, ...]
    next_token: str
    compared: tuple[int, int] | None
    change: Difference | None
    # Why nobody may go back by these buttons, "" when one may.
    no_rollback: str
    asked: GoingBack | None
    numbers: tuple[int, ...] = ()
    # What the two menus show: what is compared, or the last change.
    chosen: tuple[int, int] = (1, 1)


def versions_view(user: Person, job: Job, params: QueryDict) -> VersionsView:
    """Return a page of a job's versions, newest first, each with the size of its change.

    Raises Refused `version_not_found`, and what access.rest.read_page does.
    """
    page = read_page(params, filters=("tab", "from", "to", "confirm", "back"), orders=("number",))
    found, token = paginate(versions_of(job), page)
    around = {v.number: v for v in found}
    if found:
        beside = (found[-1].number - 1, found[0].number + 1, job.version)
        around |= {v.number: v for v in versions_of(job).filter(number__in=beside)}
    outcomes = version_outcomes(job.pk, [version.number for version in found])
    compared = _compared(params)
    change = None
    if compared:
        old, new = (spec_of(version_of(job, number)) for number in compared)
        change = difference(old, new)
    no_rollback = _no_rollback(user, job)
    return VersionsView(
        rows=tuple(_row(job, version, around, outcomes.get(version.number)) for version in found),
        next_token=token,
        compared=compared,
        change=change,
        no_rollback=no_rollback,
        asked=None if no_rollback else _asked(job, params.get("back", "")),
        numbers=tuple(versions_of(job).values_list("number", flat=True)[:200]),
        chosen=compared or (max(1, job.version - 1), job.version),
    )


def _no_rollback(user: Person, job: Job) -> str:
    if job.state == JobState.DELETED:
        return "The job was deleted; only its history can be read."
    if not may(user, ROLL_BACK, job.namespace_id):
        return f"Needs the permission {ROLL_BACK} in namespace {job.namespace_id}."
    return ""


def _asked(job: Job, text: str) -> GoingBack | None:
    """Return the question about one version; None when none is asked, or it changes nothing."""
    if not text:
        return None
    version = version_of(job, _number(text))
    if version.spec_hash == version_of(job, job.version).spec_hash:
        return None
    plan = plan_spec(spec_of(version), job, run_hash=version.run_hash)
    return GoingBack(
        number=version.number,
        new_number=job.version + 1,
        nodes=plan.total,
        waves=len(plan.waves),
        outcome=version_outcomes(job.pk, [version.number]).get(version.number),
    )


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Refused("version_not_found", "Versions are named by their numbers.")
    return int(text)


def _compared(params: QueryDict) -> tuple[int, int] | None:
    texts = params.get("from", ""), params.get("to", "")
    return (_number(texts[0]), _number(texts[1])) if any(texts) else None


def _row(
    job: Job, version: JobVersion, around: Mapping[int, JobVersion], outcome: Outcome | None
) -> VersionRow:
    before, after = around.get(version.number - 1), around.get(version.number + 1)
    change = difference(spec_of(before), spec_of(version)) if before else None
    is_taken_back = after is not None and after.rolled_back_from == version.number
    return VersionRow(
        number=version.number,
        cause=version.cause,
        rolled_back_from=version.rolled_back_from,
        reason=version.reason,
        created_by=version.created_by,
        created_at=version.created_at,
        is_current=version.number == job.version,
        is_stable=version.number == job.stable_version,
        outcome=outcome,
        taken_back_by=version.number + 1 if is_taken_back else None,
        changes=len(change.rows) if change else None,
        effect=change.effect if change else "",
        is_different=version.spec_hash != around[job.version].spec_hash,
    )

"""The job editor: what a text would do, said line by line before anything is started."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from access.problems import Refused
from access.queries import Person, require
from jobs.canonical import run_hash, spec_hash
from jobs.changes import Difference, DiffLine, diff_lines, difference, spec_of
from jobs.diff import text_diff
from jobs.document import Document, parse_document
from jobs.forms import Entry
from jobs.intake import Intake, read_spec
from jobs.models import Job, JobVersion
from jobs.planning import NodeName, SpecPlan, plan_spec
from jobs.problems import CODES, Problem, SpecRefused
from jobs.services import check_nodes, current_job, etag_of
from jobs.spec import JobSpec
from jobs.states import JobState

NAMES_SHOWN = 20
WAVE_NAMES_SHOWN = 6
NANOSECONDS = 1_000_000_000

# Where in the spec the cause of a refusal stands that carries no path of its own.
_PATH_OF = {
    "unknown_namespace": "/namespace",
    "forbidden": "/type",
    "no_matching_node": "/selector",
    "nodes_pending_enrolment": "/selector",
    "runner_unavailable": "/config/runner",
    "conflict": "/name",
    "job_deleted": "/name",
}


# --- What the plan column shows ------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemRow:
    """One problem ("bad") or doubt ("warn") of the text, with its line if it has one."""

    level: str
    message: str
    hint: str = ""
    line: int | None = None
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Some nodes by name: how many, the first ones, and how many are not named."""

    total: int
    shown: tuple[str, ...]
    reason: str = ""

    @property
    def more(self) -> int:
        """How many are not named."""
        return self.total - len(self.shown)


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveRow:
    """One wave of the plan; `share` and `offset` are percent of the strip above the table."""

    title: str
    names: Names
    all_names: tuple[str, ...]
    note: str
    offset: str
    share: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """Which nodes the plan touches and which it does not."""

    total: int
    nodes: Names
    added: Names
    removed: Names
    deferred: Names
    unchanged: Names
    left_out: tuple[Names, ...]
    is_update: bool

    @property
    def left_out_total(self) -> int:
        """How many nodes match and get nothing."""
        return sum(group.total for group in self.left_out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """The version that was submitted while this text was being written."""

    base: int
    number: int
    by: str
    at: datetime
    reason: str
    etag: str
    is_accepted: bool
    lines: tuple[DiffLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanView:
    """Everything in the plan column."""

    problems: tuple[ProblemRow, ...] = ()
    # The status that a refused start is answered with.
    status: int = 200
    name: str = ""
    number: int = 1
    targets: Targets | None = None
    waves: tuple[WaveRow, ...] = ()
    shortest: timedelta | None = None
    has_gate: bool = False
    change: Difference | None = None
    is_unchanged: bool = False
    is_forced: bool = False
    stale: Stale | None = None
    # The ETag of the job that a new job's text would update.
    seen: str = ""
    verb: str = "Start rollout"
    why_not: str = ""

    @property
    def is_ready(self) -> bool:
        """Say whether the start button may be pressed."""
        return not self.why_not

    @property
    def error_count(self) -> int:
        """How many problems refuse the text."""
        return sum(1 for problem in self.problems if problem.level == "bad")


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A text that was looked at: its plan, and what to submit if nothing stands against it."""

    plan: PlanView
    intake: Intake | None = None
    expected: str | None = None


# --- Looking at a text ---------------------------------------------------------------------------


def study(user: Person, entry: Entry, job: Job | None) -> Study:
    """Say what a text would do if it were submitted; nothing is written.

    `job` is the one being edited, None for a new one. The order of checks is that of a
    submission, and the plan comes from the planner that will carry it out (docs/semantics.md 4.8, 4.9).
    """
    document: Document | None = None
    try:
        document = parse_document(entry.text)
        intake = read_spec(user, document)
        _check_identity(intake.spec, job)
        found = current_job(intake.spec.namespace, intake.spec.name)
        if found is not None:
            # Some types are submitted without job:read, and a difference tells what is stored.
            require(user, "job:read", found.namespace_id)
    except SpecRefused as refused:
        return Study(plan=_refused(map(_row, refused.problems), CODES[refused.code][0]))
    except Refused as refused:
        return Study(plan=_refused([refusal_row(refused, document)], CODES[refused.code][0]))
    versions = _versions(found, entry)
    plan = _plan(entry, intake, found, versions)
    stale = _stale(entry, job, found, versions)
    spec_plan = plan_spec(
        intake.spec, found, run_hash="" if plan.is_forced else run_hash(intake.spec)
    )
    plan = _with_targets(plan, spec_plan, intake.spec, found)
    try:
        check_nodes(intake.spec, spec_plan)
    except Refused as refused:
        problems = (refusal_row(refused, document), *plan.problems)
        plan = replace(plan, problems=problems, status=CODES[refused.code][0])
    plan = _with_verdict(replace(plan, stale=stale, seen=_seen(job, found)), entry, spec_plan)
    return Study(plan=plan, intake=intake, expected=_expected(entry, job, found))


def refusal_row(refused: Refused, document: Document | None = None) -> ProblemRow:
    """Return a refusal as a problem, at the line of what caused it if that is known."""
    path = _PATH_OF.get(refused.code)
    place = document.position(path) if document and path else None
    return ProblemRow(
        level="bad",
        message=refused.detail or CODES[refused.code][1],
        hint=refused.hint,
        line=place[0] if place else None,
        code=refused.code,
    )


def with_refusal(plan: PlanView, refused: Refused) -> PlanView:
    """Return a plan that its submission refused after all."""
    status = CODES[refused.code][0]
    row = refusal_row(refused)
    return replace(
        plan, problems=(row, *plan.problems), status=status, why_not="It was refused; see above."
    )


def _refused(rows: Iterable[ProblemRow], status: int) -> PlanView:
    return PlanView(
        problems=tuple(rows), status=status, why_not="The problems must be solved first."
    )


def _row(problem: Problem, level: str = "bad") -> ProblemRow:
    named = problem.path.removeprefix("/").replace("/", ".")
    message = f"{named}: {problem.message}" if named else problem.message
    return ProblemRow(
        level=level, message=message, hint=problem.hint, line=problem.line, code=problem.code
    )


def _check_identity(spec: JobSpec, job: Job | None) -> None:
    """Refuse a text that left the job it began from: it would become another job unnoticed."""
    if job is None:
        return
    if job.state == JobState.DELETED:
        raise Refused(
            "job_deleted",
            f"{job.name} was deleted in the meantime.",
            hint="Carry the text over to a new job.",
        )
    if (spec.namespace, spec.name) != (job.namespace_id, job.name):
        raise Refused(
            "conflict",
            f"This page edits {job.namespace_id}/{job.name}, and the text names "
            f"{spec.namespace}/{spec.name}.",
            hint="Put the name back, or carry the text over to a new job.",
        )


def _versions(found: Job | None, entry: Entry) -> dict[int, JobVersion]:
    """Return the newest version and the one that the text began from, in one query."""
    if found is None:
        return {}
    wanted = {found.version, base_number(entry.base)}
    return {v.number: v for v in JobVersion.objects.filter(job=found, number__in=wanted)}


def base_number(etag: str) -> int:
    """Return the version that an ETag names, 0 for none."""
    number = etag.rpartition(".")[2]
    return int(number) if number.isascii() and number.isdigit() and len(number) < 10 else 0


def _seen(job: Job | None, found: Job | None) -> str:
    return etag_of(found) if job is None and found else ""


def _expected(entry: Entry, job: Job | None, found: Job | None) -> str | None:
    """Return the ETag to submit with: none for a job that is really new."""
    if job is None:
        return entry.seen or None
    is_accepted = found is not None and entry.accept == etag_of(found)
    return entry.accept if is_accepted else entry.base or etag_of(job)


def _stale(
    entry: Entry, job: Job | None, found: Job | None, versions: dict[int, JobVersion]
) -> Stale | None:
    if job is None or found is None or entry.base == etag_of(found):
        return None
    newest, base = versions[found.version], versions.get(base_number(entry.base))
    diff = text_diff(spec_of(base) if base else None, spec_of(newest))
    return Stale(
        base=base.number if base else 0,
        number=newest.number,
        by=newest.created_by,
        at=newest.created_at,
        reason=newest.reason,
        etag=etag_of(found),
        is_accepted=entry.accept == etag_of(found),
        lines=tuple(diff_lines(diff)),
    )


def _plan(
    entry: Entry, intake: Intake, found: Job | None, versions: dict[int, JobVersion]
) -> PlanView:
    """Begin a plan with what the text says against the newest version."""
    spec = intake.spec
    warnings = [_row(warning, "warn") for warning in intake.warnings]
    newest = versions.get(found.version) if found else None
    if found is None or newest is None:
        return PlanView(problems=tuple(warnings), name=str(f"{spec.namespace}/{spec.name}"))
    is_equal = newest.spec_hash == spec_hash(spec)
    is_forced = is_equal and (entry.force or found.state == JobState.STOPPED)
    return PlanView(
        problems=tuple(warnings),
        name=str(found),
        number=found.version + 1,
        change=difference(spec_of(newest), spec),
        is_unchanged=is_equal and found.state != JobState.STOPPED,
        is_forced=is_forced,
    )


def _with_targets(plan: PlanView, found: SpecPlan, spec: JobSpec, job: Job | None) -> PlanView:
    nodes = [node for wave in found.waves for node in wave]
    rollout = spec.effective_rollout
    check = rollout.health_check
    is_canary = found.strategy == "canary"
    shortest = None
    if check and found.strategy != "immediate" and found.waves:
        seconds = check.success_threshold * check.interval / NANOSECONDS
        shortest = timedelta(seconds=round(seconds * len(found.waves)))
    has_gate = is_canary and len(found.waves) > 1 and not rollout.auto_promote
    targets = Targets(
        total=len(nodes),
        nodes=_names(nodes),
        added=_names(found.added),
        removed=_names(found.removed),
        deferred=_names(found.deferred),
        unchanged=_names(found.unchanged),
        left_out=tuple(_names(group.nodes, reason=group.reason) for group in found.left_out),
        is_update=job is not None,
    )
    waves = tuple(_wave_rows(found, is_canary=is_canary, has_gate=has_gate))
    return replace(plan, targets=targets, waves=waves, shortest=shortest, has_gate=has_gate)


def _names(nodes: Iterable[NodeName], shown: int = NAMES_SHOWN, reason: str = "") -> Names:
    names = [node.name for node in nodes]
    return Names(total=len(names), shown=tuple(names[:shown]), reason=reason)


def _wave_rows(plan: SpecPlan, *, is_canary: bool, has_gate: bool) -> Iterable[WaveRow]:
    offset = 0
    for number, wave in enumerate(plan.waves, start=1):
        is_first = number == 1 and is_canary
        yield WaveRow(
            title=f"{number}, canary" if is_first else str(number),
            names=_names(wave, WAVE_NAMES_SHOWN),
            all_names=tuple(node.name for node in wave),
            note="then a gate" if is_first and has_gate else "",
            offset=f"{100 * offset / plan.total:.2f}",
            # The strip shows a gap between two waves.
            share=f"{max(100 * len(wave) / plan.total - 0.7, 0.3):.2f}",
        )
        offset += len(wave)


def _with_verdict(plan: PlanView, entry: Entry, found: SpecPlan) -> PlanView:
    """Say what the button does, or why it may not be pressed."""
    count = found.total
    nodes = f"{count:,} node" if count == 1 else f"{count:,} nodes"
    verb = f"{'Restart' if plan.is_forced else 'Start rollout on'} {nodes}"
    if not count:
        verb = f"Store version {plan.number}, no node has to change"
    if plan.error_count:
        why_not, status = "The problems must be solved first.", plan.status
    elif plan.stale and not plan.stale.is_accepted:
        why_not, status = f"Version {plan.stale.number} came in between; see above.", 412
    elif plan.is_unchanged and not plan.is_forced:
        why_not, status = "Nothing would change.", 422
    elif plan.seen and entry.seen != plan.seen and not plan.stale:
        # The first plan that finds the name taken says so; the next start goes through.
        why_not, status = "", 409
    else:
        why_not, status = "", 200
    return replace(plan, verb=verb, why_not=why_not, status=status)

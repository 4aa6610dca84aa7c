"""The nodes of a rollout as marks: each in its place, and counted by wave."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from uuid import UUID

from rollouts.models import Rollout
from rollouts.sets import fetch
from rollouts.states import FINISHED_ROLLOUT, RolloutState, Strategy, TargetState
from rollouts.terms import Terms

DONE = ("stable", "degraded", "restored")

# What a node looks like: its place in the rollout first, then what its execution was last seen in.
_KIND = """
CASE
    WHEN r.state = 'halted' AND t.state IN ('released', 'updated', 'stopped')
        AND wanted.job_version <> v.number THEN 'restored'
    WHEN t.state = 'remaining' THEN 'waiting'
    WHEN t.state = 'deferred' THEN 'deferred'
    WHEN t.state = 'stopped' THEN 'old'
    WHEN t.state = 'failed' THEN CASE e.observed_state WHEN 'lost' THEN 'lost' ELSE 'failed' END
    WHEN t.state = 'released' THEN CASE e.observed_state
        WHEN 'validating' THEN 'validating' WHEN 'failed' THEN 'failed' WHEN 'lost' THEN 'lost'
        WHEN 'running' THEN CASE v.spec ->> 'type' WHEN 'pipeline' THEN 'stable' ELSE 'starting' END
        WHEN 'completed' THEN 'stable' WHEN 'stopping' THEN 'old' WHEN 'stopped' THEN 'old'
        ELSE 'starting' END
    ELSE CASE e.observed_state
        WHEN 'degraded' THEN 'degraded' WHEN 'lost' THEN 'lost' ELSE 'stable' END
END
"""
_FROM = """
FROM rollouts_rollouttarget t
JOIN rollouts_rollout r ON r.id = t.rollout_id
JOIN jobs_jobversion v ON v.id = r.version_id
LEFT JOIN (
    SELECT DISTINCT ON (x.rollout_id, x.node_id) x.rollout_id, x.node_id, x.observed_state
    FROM rollouts_execution x
    WHERE x.rollout_id = ANY(%s) ORDER BY x.rollout_id, x.node_id, x.created_at DESC, x.id DESC
) e ON e.rollout_id = t.rollout_id AND e.node_id = t.node_id
LEFT JOIN rollouts_execution wanted ON wanted.job_id = r.job_id AND wanted.node_id = t.node_id
    AND wanted.desired_state = 'running'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkCount:
    """How many nodes share a wave, a state, a ring and a look."""

    wave: int
    state: str
    ring: int
    kind: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One node."""

    node_id: UUID
    name: str
    wave: int
    state: str
    kind: str

    @property
    def href(self) -> str:
        """Where the page of its rollout shows it."""
        return f"?node={self.node_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """A wave that was opened or is planned, or a set beside the waves (current, deferred)."""

    title: str
    label: str
    number: int = 0
    is_wave: bool = True
    is_current: bool = False
    is_canary: bool = False
    is_halted: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)
    glyph: str = "g-open"
    tone: str = "off"
    note: str = ""
    # How many nodes stand in this and all earlier waves: the ruler under the strip.
    up_to: int = 0
    marks: tuple[Mark, ...] = ()

    @property
    def size(self) -> int:
        """How many nodes it has."""
        return sum(self.counts.values())

    @property
    def done(self) -> int:
        """How many of them are where they should be."""
        return sum(self.counts.get(kind, 0) for kind in DONE)

    @property
    def segments(self) -> tuple[tuple[str, int], ...]:
        """The bar of the wave, the good first."""
        return tuple((kind, self.counts[kind]) for kind in _BAR_ORDER if self.counts.get(kind))

    @staticmethod
    def together(waves: Sequence["Wave"]) -> "Wave":
        """Return several waves as one."""
        counts: Counter[str] = Counter()
        for wave in waves:
            counts.update(wave.counts)
        first, last = waves[0], waves[-1]
        name = f"{first.number} to {last.number}"
        return replace(last, title=f"Waves {name}", label=name, counts=dict(counts), marks=())


_BAR_ORDER = (
    "stable",
    "restored",
    "degraded",
    "validating",
    "starting",
    "old",
    "deferred",
    "lost",
    "failed",
    "waiting",
)
_WORDS = {"waiting": "not sent", "old": "stopped"}


def count_marks(rollout: Rollout) -> tuple[MarkCount, ...]:
    """Count the nodes of a rollout by wave and look: one query for any number of them."""
    return count_marks_of([rollout]).get(rollout.pk, ())


def count_marks_of(rollouts: Iterable[Rollout]) -> dict[UUID, tuple[MarkCount, ...]]:
    """Count the nodes of several rollouts by wave and look: one query for all."""
    ids = [rollout.pk for rollout in rollouts]
    rows = fetch(
        f"SELECT t.rollout_id, t.wave, t.state, t.ring, {_KIND} AS kind, count(*) {_FROM} "
        "WHERE t.rollout_id = ANY(%s) AND t.state <> 'left' "
        "GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 4",
        [ids, ids],
    )
    found: dict[UUID, list[MarkCount]] = defaultdict(list)
    for pk, wave, state, ring, kind, count in rows:
        found[pk].append(MarkCount(wave=wave, state=state, ring=ring, kind=kind, count=count))
    return {pk: tuple(counts) for pk, counts in found.items()}


def list_marks(rollout: Rollout) -> tuple[Mark, ...]:
    """Return every node of a rollout in the order in which it gets its turn; one query."""
    rows = fetch(
        f"SELECT t.node_id, n.name, t.wave, t.state, {_KIND} {_FROM} "
        "JOIN nodes_node n ON n.id = t.node_id "
        "WHERE t.rollout_id = %s AND t.state <> 'left' ORDER BY t.position",
        [[rollout.pk], rollout.pk],
    )
    return tuple(
        Mark(node_id=node_id, name=name, wave=wave, state=state, kind=kind)
        for node_id, name, wave, state, kind in rows
    )


def waves_of(
    rollout: Rollout, terms: Terms, counts: Iterable[MarkCount], marks: Sequence[Mark] = ()
) -> tuple[Wave, ...]:
    """Return the waves of a rollout in their order: opened, planned; then who is in none.

    Planned waves are those that the planner would make of the nodes that remain.
    """
    counts = tuple(counts)
    is_immediate = rollout.strategy == Strategy.IMMEDIATE
    opened = [c for c in counts if c.state not in _BESIDE and (is_immediate or not _ahead(c))]
    ahead = [] if is_immediate else [c for c in counts if _ahead(c)]
    waves = list(_opened(rollout, opened, marks))
    waves += _planned(rollout, terms, ahead, marks)
    waves = _with_ruler(waves)
    return (*waves, *_beside(counts, marks))


_BESIDE = (TargetState.CURRENT, TargetState.DEFERRED)


def _ahead(row: MarkCount | Mark) -> bool:
    return row.state == TargetState.REMAINING


def _opened(rollout: Rollout, counts: Sequence[MarkCount], marks: Sequence[Mark]) -> Iterator[Wave]:
    is_immediate = rollout.strategy == Strategy.IMMEDIATE
    for number in sorted({row.wave for row in counts}):
        held: Counter[str] = Counter()
        for row in counts:
            if row.wave == number:
                held[row.kind] += row.count
        is_canary = bool(rollout.canary_size) and number == 1
        is_current = number == rollout.current_wave
        is_halted = is_current and rollout.state == RolloutState.HALTED
        tone, glyph = _look(rollout, is_current=is_current)
        yield Wave(
            title="All at once" if is_immediate else f"Wave {number}",
            label="all" if is_immediate else str(number),
            number=number,
            is_current=is_current and rollout.state != RolloutState.COMPLETED,
            is_canary=is_canary,
            is_halted=is_halted,
            counts=dict(held),
            tone=tone,
            glyph=glyph,
            note=_note(held, "Halted" if is_halted else "Canary" if is_canary else ""),
            marks=tuple(
                mark
                for mark in marks
                if mark.wave == number
                and mark.state not in _BESIDE
                and (is_immediate or not _ahead(mark))
            ),
        )


def _look(rollout: Rollout, *, is_current: bool) -> tuple[str, str]:
    if not is_current or rollout.state == RolloutState.COMPLETED:
        return "ok", "g-done"
    if rollout.state == RolloutState.HALTED:
        return "bad", "g-bad"
    if rollout.pause_reason == "awaiting_promotion":
        return "warn", "g-gate"
    if rollout.state == RolloutState.PAUSED:
        return "off", "g-paused"
    return ("off", "g-stop") if rollout.state in FINISHED_ROLLOUT else ("active", "g-active")


def _note(counts: Mapping[str, int], lead: str) -> str:
    parts = [
        f"{counts[kind]:,} {_WORDS.get(kind, kind)}"
        for kind in _BAR_ORDER
        if counts.get(kind) and kind != "stable"
    ]
    return "; ".join(part for part in (lead, ", ".join(parts)) if part)


def _planned(
    rollout: Rollout, terms: Terms, counts: Sequence[MarkCount], marks: Sequence[Mark]
) -> Iterator[Wave]:
    rest = iter([mark for mark in marks if _ahead(mark)])
    is_over = rollout.state in FINISHED_ROLLOUT
    sizes = planned_sizes(rollout, terms, counts)
    for number, size in enumerate(sizes, start=rollout.current_wave + 1):
        is_canary = bool(rollout.canary_size) and number == 1
        note = ""
        if is_over:
            note = "Never opened"
        elif number == rollout.current_wave + 1 > 1:
            note = f"Opens when wave {rollout.current_wave} settles"
            if rollout.pause_reason:
                note = "Opens on promotion" if _is_at_gate(rollout) else "Opens when it resumes"
        yield Wave(
            title=f"Wave {number}",
            label=str(number),
            number=number,
            is_canary=is_canary,
            counts={"waiting": size},
            glyph="g-stop" if is_over else "g-open",
            note=note,
            marks=tuple(islice(rest, size)),
        )


def _is_at_gate(rollout: Rollout) -> bool:
    return rollout.pause_reason == "awaiting_promotion"


def planned_sizes(rollout: Rollout, terms: Terms, counts: Iterable[MarkCount]) -> list[int]:
    """Return the sizes of the waves to come (domain.md 1.7, C09): canaries, then W within rings."""
    rings: Counter[int] = Counter()
    for row in counts:
        rings[row.ring if terms.order.by == "rings" else 0] += row.count
    size = max(1, rollout.wave_size)
    canaries = rollout.canary_size if rollout.current_wave == 0 else 0
    canaries = min(canaries, rings.total())
    sizes = [canaries] if canaries else []
    for _, count in sorted(rings.items()):
        taken = min(canaries, count)
        canaries -= taken
        full, last = divmod(count - taken, size)
        sizes += [size] * full + ([last] if last else [])
    return sizes


def _with_ruler(waves: Sequence[Wave]) -> list[Wave]:
    ruled, up_to = [], 0
    for wave in waves:
        up_to += wave.size
        ruled.append(replace(wave, up_to=up_to))
    return ruled


def _beside(counts: Sequence[MarkCount], marks: Sequence[Mark]) -> Iterator[Wave]:
    for state, title in (
        (TargetState.DEFERRED, "Deferred"),
        (TargetState.CURRENT, "Already current"),
    ):
        held: Counter[str] = Counter()
        for row in counts:
            if row.state == state:
                held[row.kind] += row.count
        if held:
            yield Wave(
                title=title,
                label=state,
                is_wave=False,
                counts=dict(held),
                marks=tuple(mark for mark in marks if mark.state == state),
            )

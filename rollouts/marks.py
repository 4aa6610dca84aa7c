"""The waves of a rollout, opened and planned, with the marks of their nodes."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, islice

from rollouts.models import Rollout
from rollouts.states import FINISHED_ROLLOUT, RolloutState, Strategy, TargetState
from rollouts.tally import Mark, MarkCount
from rollouts.terms import Terms

DONE = ("stable", "degraded", "restored")


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
        note = last.note if set(counts) <= {"waiting"} else _note(counts, "")
        return replace(
            last,
            title=f"Waves {name}",
            label=name,
            counts=dict(counts),
            note=note,
            is_canary=False,
            marks=(),
        )


def bunch_waves(waves: Sequence[Wave], most: int) -> tuple[Wave, ...]:
    """Draw neighbours together until about `most` are left; the open wave stays by itself."""
    each = -(-len(waves) // most)
    if each <= 1:
        return tuple(waves)
    found: list[Wave] = []
    for _, same in groupby(waves, key=lambda wave: (wave.is_wave, wave.is_current, wave.tone)):
        rest = list(same)
        for at in range(0, len(rest), each):
            bunch = rest[at : at + each]
            is_one = len(bunch) == 1 or not bunch[0].is_wave
            found += bunch if is_one else [Wave.together(bunch)]
    return tuple(found)


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
    """Return the sizes of the waves to come (docs/semantics.md 1.7, C09): canaries, then W within rings."""
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

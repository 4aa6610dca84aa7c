"""The buttons of a node, and of many at once: which may be pressed, and what they would do."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from uuid import UUID

from access.queries import Person, may
from nodes.models import Node
from nodes.queries import WRITE
from nodes.states import ConnectionState, EnrolmentState, SchedulingState


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One button; with a `why_not` it is shown and may not be pressed."""

    verb: str
    name: str
    glyph: str = ""
    css: str = ""
    why_not: str = ""
    # Destructive: asked again, with the consequence in words.
    question: str = ""
    consequence: str = ""
    keep: str = ""
    fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls:
    """All buttons of a node, and the one that is being asked about again."""

    pk: UUID
    buttons: tuple[Control, ...]
    asked: Control | None = None


def controls_of(user: Person, node: Node, active: int, asked: str = "") -> Controls:
    """Return the buttons of a node for a person; `active` executions run on it."""
    buttons = _buttons(node, active)
    if not may(user, WRITE, node.namespace_id):
        lacking = f"Needs the permission {WRITE} in namespace {node.namespace_id}."
        buttons = [replace(button, why_not=lacking) for button in buttons]
    found = [b for b in buttons if b.name == asked and b.question and not b.why_not]
    return Controls(pk=node.pk, buttons=tuple(buttons), asked=found[0] if found else None)


def _buttons(node: Node, active: int) -> list[Control]:
    if node.connection_state == ConnectionState.DELETED:
        return []
    if node.enrolment_state == EnrolmentState.PENDING:
        return [
            _accept(node, "is-primary"),
            Control(verb="Reject", name="reject", glyph="i-x", css="is-danger"),
        ]
    if node.enrolment_state == EnrolmentState.REJECTED:
        return [_accept(node, ""), _delete(node, active)]
    if node.enrolment_state == EnrolmentState.REVOKED:
        return [_delete(node, active)]
    return [*_scheduling(node, active), _revoke(node, active), _delete(node, active)]


def _accept(node: Node, css: str) -> Control:
    return Control(
        verb="Accept", name="accept", glyph="i-check", css=css, fingerprint=node.fingerprint
    )


def _scheduling(node: Node, active: int) -> list[Control]:
    if node.scheduling_state != SchedulingState.READY:
        verb = "Uncordon" if node.scheduling_state == SchedulingState.CORDONED else "Undrain"
        return [Control(verb=verb, name="undrain", glyph="i-play", css="is-primary")]
    return [
        Control(verb="Cordon", name="cordon", glyph="i-pause"),
        Control(
            verb="Drain…",
            name="drain",
            css="is-danger",
            question=f"Drain {node.name}?",
            consequence=f"{executions(active)} on it now. Pipelines and config jobs are stopped "
            "and come back when the node is undrained; scripts that run may finish. It gets no "
            "new work.",
            keep="Keep it working",
        ),
    ]


def _revoke(node: Node, active: int) -> Control:
    return Control(
        verb="Revoke…",
        name="revoke",
        css="is-danger",
        question=f"Take the trust of {node.name} back?",
        consequence=f"Its session ends and its key is never taken again. {executions(active)} on "
        "it now; the control plane can no longer stop them. The machine can only come back as a "
        "new node, with another key.",
        keep="Keep trusting it",
    )


def _delete(node: Node, active: int) -> Control:
    return Control(
        verb="Delete…",
        name="delete",
        css="is-danger",
        question=f"Delete {node.name}?",
        consequence=f"{executions(active)} on it now, and end as lost. Its history stays; the "
        "machine may enrol again as a new node.",
        keep="Keep it",
    )


def executions(count: int) -> str:
    """Say how many executions are active."""
    if count == 0:
        return "No execution is"
    return "1 execution is" if count == 1 else f"{count:,} executions are"


# --- Many at once --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkVerb:
    """What may be asked of many nodes: the button, the past tense, the consequence."""

    name: str
    verb: str
    done: str
    consequence: str
    css: str = ""


BULK = {
    found.name: found
    for found in (
        BulkVerb(
            name="cordon",
            verb="Cordon",
            done="cordoned",
            consequence="They get no new work. What runs on them goes on.",
        ),
        BulkVerb(
            name="drain",
            verb="Drain",
            done="drained",
            css="is-danger",
            consequence="They get no new work. Pipelines and config jobs on them are stopped and "
            "come back when they are undrained; scripts that run may finish.",
        ),
        BulkVerb(
            name="undrain",
            verb="Undrain",
            done="ready again",
            consequence="They take work again, and what was moved off comes back.",
        ),
        BulkVerb(
            name="accept",
            verb="Accept",
            done="accepted",
            consequence="Jobs may run on them from now on. Accept only machines whose fingerprint "
            "you have compared with the one on their console.",
        ),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkNode:
    """One node that is meant, as the question shows it."""

    pk: UUID
    name: str
    namespace: str
    badge: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkQuestion:
    """The second step: what would happen to how many, and who they are."""

    verb: BulkVerb
    nodes: tuple[BulkNode, ...]
    active: int
    lacking: tuple[str, ...]

    @property
    def first(self) -> Collection[BulkNode]:
        """The nodes that are named; of a long list the first alone."""
        return self.nodes[:20]

    @property
    def rest(self) -> int:
        """How many more there are."""
        return len(self.nodes) - len(self.first)

"""The one table from a state's kind to its word, tone and glyph, as drawn in the visual language."""

from typing import Final, NamedTuple


class Tone(NamedTuple):
    """How a state looks: the word a person reads, the colour family, the shape."""

    word: str
    tone: str
    glyph: str


_NODE: Final = {
    "node.ready": Tone("Ready", "ok", "g-ok"),
    "node.connected": Tone("Connected", "ok", "g-ok"),
    "node.pending": Tone("Pending", "warn", "g-ask"),
    "node.rejected": Tone("Rejected", "bad", "g-bad"),
    "node.revoked": Tone("Revoked", "bad", "g-bad"),
    "node.deleted": Tone("Deleted", "off", "g-stop"),
    "node.disconnected": Tone("Disconnected", "off", "g-gone"),
    "node.draining": Tone("Draining", "warn", "g-drain"),
    "node.cordoned": Tone("Cordoned", "off", "g-cordon"),
    "node.accepted": Tone("Accepted", "ok", "g-done"),
}

_JOB: Final = {
    "": Tone("Not started", "off", "g-open"),
    "queued": Tone("Queued", "off", "g-queue"),
    "deploying": Tone("Deploying", "active", "g-active"),
    "running": Tone("Running", "ok", "g-ok"),
    "rollout_paused": Tone("Rollout paused", "off", "g-paused"),
    "rollout_failed": Tone("Rollout failed", "bad", "g-bad"),
    "degraded": Tone("Degraded", "warn", "g-warn"),
    "completed": Tone("Completed", "ok", "g-done"),
    "failed": Tone("Failed", "bad", "g-bad"),
    "stopped": Tone("Stopped", "off", "g-stop"),
    "deleted": Tone("Deleted", "off", "g-stop"),
}

_ROLLOUT: Final = {
    "active": Tone("Rolling", "active", "g-active"),
    "paused": Tone("Paused", "off", "g-paused"),
    "awaiting_promotion": Tone("Awaiting promotion", "warn", "g-gate"),
    "halted": Tone("Halted", "bad", "g-bad"),
    "cancelled": Tone("Cancelled", "off", "g-stop"),
    "superseded": Tone("Superseded", "off", "g-back"),
    "rolling_back": Tone("Rolling back", "active", "g-back"),
    "rolled_back": Tone("Rolled back", "warn", "g-back"),
}

_EXECUTION: Final = {
    "pending": Tone("Pending", "off", "g-open"),
    "starting": Tone("Starting", "active", "g-open"),
    "validating": Tone("Validating", "active", "g-active"),
    "stable": Tone("Stable", "ok", "g-ok"),
    "lost": Tone("Lost", "bad", "g-lost"),
    "stopping": Tone("Stopping", "active", "g-stop"),
    "deferred": Tone("Deferred", "off", "g-gone"),
    "remaining": Tone("Not sent", "off", "g-open"),
    "released": Tone("In flight", "active", "g-active"),
    "current": Tone("Already current", "ok", "g-done"),
    "updated": Tone("Updated", "ok", "g-ok"),
    "left": Tone("Left", "off", "g-gone"),
    "healthy": Tone("Good", "ok", "g-ok"),
    "unhealthy": Tone("Over", "bad", "g-bad"),
    "success": Tone("Success", "ok", "g-done"),
    "partial_failure": Tone("Partly failed", "warn", "g-warn"),
    "failure": Tone("Failed", "bad", "g-bad"),
    "skipped": Tone("Skipped", "off", "g-open"),
    "timeout": Tone("Timed out", "bad", "g-queue"),
}

# How a node answers a call of an operation, and whether that changed it.
_ANSWER: Final = {
    "answer.ok": Tone("Ok", "ok", "g-done"),
    "answer.failed": Tone("Failed", "bad", "g-bad"),
    "answer.skipped": Tone("Skipped", "off", "g-open"),
    "answer.waiting": Tone("Waiting", "off", "g-queue"),
    "answer.running": Tone("Running", "active", "g-active"),
    "answer.changed": Tone("Changed", "active", "g-dot"),
    "answer.unchanged": Tone("Unchanged", "off", "g-dot"),
}

# Marks are drawn by CSS (`.mark.is-<kind>`); the word is what the name and the legend say.
_MARK: Final = {
    "mark.stable": Tone("stable", "ok", "g-ok"),
    "mark.validating": Tone("validating", "checking", "g-active"),
    "mark.starting": Tone("starting", "starting", "g-open"),
    "mark.waiting": Tone("not sent", "none", "g-open"),
    "mark.failed": Tone("failed", "bad", "g-bad"),
    "mark.lost": Tone("lost", "bad", "g-lost"),
    "mark.deferred": Tone("deferred", "off", "g-gone"),
    "mark.degraded": Tone("degraded", "warn", "g-warn"),
    "mark.restored": Tone("restored", "ok", "g-back"),
    "mark.old": Tone("other version", "track", "g-open"),
}

TONES: Final[dict[str, Tone]] = {
    **_NODE,
    **_JOB,
    **_ROLLOUT,
    **_EXECUTION,
    **_ANSWER,
    **_MARK,
}

# Observed and target states that have no mark of their own share that of what they mean on a wave.
_MARK_OF: Final = {
    "pending": "waiting",
    "running": "stable",
    "completed": "stable",
    "stopping": "old",
    "stopped": "old",
    "remaining": "waiting",
    "released": "starting",
    "current": "stable",
    "updated": "stable",
    "left": "old",
}


def tone_of(kind: str, noun: str = "") -> Tone:
    """Return the look of a state; the noun picks its own row where two nouns share a word.

    An unknown kind gets its own name and the calm look, so that a page never fails for a word.
    """
    found = TONES.get(f"{noun}.{kind}") or TONES.get(kind)
    return found or Tone(kind.replace("_", " ").capitalize(), "off", "g-open")


def mark_of(kind: str) -> str:
    """Return the mark (a key after `mark.`) that stands for an observed state or a mark's kind."""
    mark = _MARK_OF.get(kind, kind)
    return mark if f"mark.{mark}" in TONES else "old"

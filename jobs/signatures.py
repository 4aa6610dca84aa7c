"""Signatures of submitted specs: the signed bytes, and whether every entry holds."""

import base64
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from jobs.problems import Problem, SpecRefused, pointer

SIGNED_MEMBERS = (
    "namespace",
    "name",
    "type",
    "config",
    "selector",
    "timeouts",
    "restart_policy",
)
SIGNING_WINDOW = timedelta(minutes=5)
RETIRED_KEY_GRACE = timedelta(hours=24)
ALGORITHM = "ed25519"

_PREAMBLE = b"fleetjob.sig.v1\n"
_KEY_PREFIX = "ed25519:"
_SIGNATURE_PREFIX = "sig:"
_NONCE_RE = re.compile(r"[0-9a-fA-F]{16,64}")
_TIME_RE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|\+00:00)", re.ASCII)
_FIELD = 2**255 - 19
_GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493
# The y coordinates of the eight points of small order; the sign of x makes two of most (RFC 8032).
_SMALL_ORDER_Y = frozenset(
    {
        0,
        1,
        _FIELD - 1,
        int.from_bytes(
            bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
            "little",
        ),
        int.from_bytes(
            bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
            "little",
        ),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedSigner:
    """A key that a namespace trusts; empty `types` or `runners` allow all."""

    public_key: bytes
    types: frozenset[str] = frozenset()
    runners: frozenset[str] = frozenset()
    retired_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignaturePolicy:
    """What a namespace asks of signatures (docs/semantics.md 3.4)."""

    require_signatures: bool = False
    min_signatures: int = 1
    signers: tuple[TrustedSigner, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedSignature:
    """An entry that held; (public_key, nonce) is used up once the job is stored."""

    public_key: bytes
    nonce: str
    signed_at: datetime

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the signer's key."""
        return key_fingerprint(self.public_key)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry as submitted, and, once its form is known to hold, what it says."""

    index: int
    members: Mapping[str, object]
    key: bytes = b""
    signature: bytes = b""
    signed_at: datetime = field(default=datetime.min.replace(tzinfo=UTC))

    def text(self, name: str) -> str:
        value = self.members.get(name)
        return value if isinstance(value, str) else ""

    def problem(self, code: str, message: str, member: str = "") -> Problem:
        place = ("signatures", self.index, member) if member else ("signatures", self.index)
        return Problem(path=pointer(*place), code=code, message=message)


def key_fingerprint(public_key: bytes) -> str:
    """Return the fingerprint of a raw public key."""
    return f"sha256:{hashlib.sha256(public_key).hexdigest()}"


def signed_message(spec: Mapping[str, object], nonce: str, signed_at: str) -> bytes:
    """Return the bytes that a signer signs for a spec as submitted (docs/semantics.md 3.4).

    Raises rfc8785.CanonicalizationError for integers beyond 2^53-1.
    """
    signed: dict[str, object] = {name: spec.get(name) for name in SIGNED_MEMBERS}
    signed |= {"v": 1, "nonce": nonce, "signed_at": signed_at}
    return _PREAMBLE + rfc8785.dumps(signed)  # type: ignore[arg-type]


def parse_public_key(text: str) -> bytes:
    """Read "ed25519:" and base64 of 32 bytes; raises ValueError, also for unsafe keys."""
    if not text.startswith(_KEY_PREFIX):
        raise ValueError(f"a public key begins with {_KEY_PREFIX}")
    key = _decode(text.removeprefix(_KEY_PREFIX), 32)
    check_public_key(key)
    return key


def check_public_key(key: bytes) -> None:
    """Refuse, with ValueError, keys that verify what nobody signed (docs/security.md)."""
    y = int.from_bytes(key, "little") % 2**255
    if y >= _FIELD:
        raise ValueError("the public key is not in its canonical form")
    if y in _SMALL_ORDER_Y:
        raise ValueError("the public key is a point of small order")


def check_signatures(
    spec: Mapping[str, object],
    policy: SignaturePolicy,
    *,
    now: datetime,
    is_used: Callable[[bytes, str], bool],
) -> tuple[VerifiedSignature, ...]:
    """Check every entry of `spec["signatures"]`, the spec being as submitted (docs/semantics.md 3.4, X36).

    `is_used(public_key, nonce)` tells whether a stored job used the pair within 24 hours; nonces
    are compared in lower case. Returns one entry for each signer. Raises SpecRefused of the stage
    "signatures" with all problems of the first check that fails.
    """
    submitted = spec.get("signatures")
    listed = submitted if isinstance(submitted, list | tuple) else []
    entries = [
        _Entry(index, members if isinstance(members, Mapping) else {})
        for index, members in enumerate(listed)
    ]
    _refuse([_algorithm_problem(entry) for entry in entries])
    entries = _read_forms(entries)
    messages = _messages(spec, entries)
    _refuse([_proof_problem(e, message) for e, message in zip(entries, messages, strict=True)])
    _refuse([_window_problem(entry, now) for entry in entries])
    _refuse([_replay_problem(entry, is_used) for entry in entries])
    _refuse([_trust_problem(entry, spec, policy, now) for entry in entries])
    verified = {
        entry.key: VerifiedSignature(
            public_key=entry.key, nonce=entry.text("nonce").lower(), signed_at=entry.signed_at
        )
        for entry in entries
    }
    _refuse([_quorum_problem(len(verified), policy)])
    return tuple(verified.values())


def _refuse(problems: Sequence[Problem | None]) -> None:
    found = [problem for problem in problems if problem is not None]
    if found:
        raise SpecRefused("signatures", found)


def _algorithm_problem(entry: _Entry) -> Problem | None:
    algorithm = entry.text("algorithm")
    if algorithm == ALGORITHM:
        return None
    message = f"{algorithm[:80]!r} is not supported; sign with {ALGORITHM}"
    return entry.problem("signature_algorithm", message, "algorithm")


def _read_forms(entries: list[_Entry]) -> list[_Entry]:
    read: list[_Entry] = []
    problems: list[Problem] = []
    for entry in entries:
        member = "public_key"
        try:
            key = parse_public_key(entry.text(member))
            member = "signature"
            signature = _decode(entry.text(member).removeprefix(_SIGNATURE_PREFIX), 64)
            member = "nonce"
            _check_nonce(entry.text(member))
            member = "signed_at"
            signed_at = _parse_time(entry.text(member))
        except ValueError as error:
            problems.append(entry.problem("signature_invalid", str(error), member))
            continue
        read.append(_Entry(entry.index, entry.members, key, signature, signed_at))
    _refuse(problems)
    return read


def _decode(text: str, length: int) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        raw = b""
    # The comparison refuses second spellings of the same bytes.
    if len(raw) != length or base64.b64encode(raw).decode() != text:
        raise ValueError(f"it is not the base64 of {length} bytes")
    return raw


def _check_nonce(text: str) -> None:
    if not _NONCE_RE.fullmatch(text):
        raise ValueError("a nonce has 16 to 64 hexadecimal digits")


def _parse_time(text: str) -> datetime:
    if not _TIME_RE.fullmatch(text):
        raise ValueError("it is not a time such as 2026-01-15T10:30:00Z")
    return datetime.fromisoformat(text)


def _messages(spec: Mapping[str, object], entries: list[_Entry]) -> list[bytes]:
    try:
        return [
            signed_message(spec, entry.text("nonce"), entry.text("signed_at")) for entry in entries
        ]
    except rfc8785.CanonicalizationError as error:
        problem = Problem(path="", code="signature_number_range", message=str(error))
        raise SpecRefused("signatures", [problem]) from None


def _proof_problem(entry: _Entry, message: bytes) -> Problem | None:
    wrong = entry.problem(
        "signature_invalid", "the signature does not belong to this spec and key", "signature"
    )
    if int.from_bytes(entry.signature[32:], "little") >= _GROUP_ORDER:
        return wrong
    try:
        Ed25519PublicKey.from_public_bytes(entry.key).verify(entry.signature, message)
    except InvalidSignature:
        return wrong
    return None


def _window_problem(entry: _Entry, now: datetime) -> Problem | None:
    if abs(now - entry.signed_at) <= SIGNING_WINDOW:
        return None
    message = f"it was signed at {entry.text('signed_at')}, more than 5 minutes from now"
    return entry.problem("signature_expired", message, "signed_at")


def _replay_problem(entry: _Entry, is_used: Callable[[bytes, str], bool]) -> Problem | None:
    if not is_used(entry.key, entry.text("nonce").lower()):
        return None
    message = "this key used this nonce within the last 24 hours"
    return entry.problem("signature_replayed", message, "nonce")


def _trust_problem(
    entry: _Entry, spec: Mapping[str, object], policy: SignaturePolicy, now: datetime
) -> Problem | None:
    config = spec.get("config")
    runner = config.get("runner") if isinstance(config, Mapping) else None
    for signer in policy.signers:
        if signer.public_key != entry.key:
            continue
        is_current = signer.retired_at is None or now <= signer.retired_at + RETIRED_KEY_GRACE
        fits_type = not signer.types or spec.get("type") in signer.types
        fits_runner = not signer.runners or runner is None or runner in signer.runners
        if is_current and fits_type and fits_runner:
            return None
    message = f"{key_fingerprint(entry.key)} may not sign this in this namespace"
    return entry.problem("signer_untrusted", message, "public_key")


def _quorum_problem(count: int, policy: SignaturePolicy) -> Problem | None:
    if not policy.require_signatures or count >= policy.min_signatures:
        return None
    message = f"{policy.min_signatures} signers are needed, {count} signed"
    return Problem(path="/signatures", code="signature_required", message=message)

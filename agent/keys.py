"""Ed25519 (RFC 8032) in plain Python, and the node's own key on disk.

A node has Python alone, and a compiled library would cost more memory than the whole agent. What
is verified is public, and what is signed is a challenge per session, so speed and timing matter
little. Verification is strict: see `verify`.
"""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

Point = tuple[int, int, int, int]

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_ROOT = pow(2, (_P - 1) // 4, _P)
_IDENTITY: Point = (0, 1, 1, 0)


def _add(a: Point, b: Point) -> Point:
    e = (a[1] - a[0]) * (b[1] - b[0]) % _P
    f = (a[1] + a[0]) * (b[1] + b[0]) % _P
    g = 2 * a[3] * b[3] * _D % _P
    h = 2 * a[2] * b[2] % _P
    w, x, y, z = f - e, h - g, h + g, f + e
    return (w * x % _P, y * z % _P, x * y % _P, w * z % _P)


def _times(scalar: int, point: Point) -> Point:
    result = _IDENTITY
    while scalar:
        if scalar & 1:
            result = _add(result, point)
        point = _add(point, point)
        scalar >>= 1
    return result


def _equal(a: Point, b: Point) -> bool:
    return (a[0] * b[2] - b[0] * a[2]) % _P == 0 and (a[1] * b[2] - b[1] * a[2]) % _P == 0


def _x_of(y: int, sign: int) -> int | None:
    """Return the x of a canonical encoding, None when there is no such point."""
    if y >= _P:
        return None
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    if square == 0:
        return None if sign else 0
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * _ROOT % _P
    if (x * x - square) % _P:
        return None
    return _P - x if x & 1 != sign else x


def _unpack(data: bytes) -> Point | None:
    if len(data) != 32:
        return None
    number = int.from_bytes(data, "little")
    y = number & (2**255 - 1)
    x = _x_of(y, number >> 255)
    return None if x is None else (x, y, 1, x * y % _P)


def _pack(point: Point) -> bytes:
    inverse = pow(point[2], -1, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


_BASE_Y = 4 * pow(5, -1, _P) % _P
_BASE_X = _x_of(_BASE_Y, 0) or 0
_BASE: Point = (_BASE_X, _BASE_Y, 1, _BASE_X * _BASE_Y % _P)


def _number(*parts: bytes) -> int:
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little")


def _expand(seed: bytes) -> tuple[int, bytes]:
    digest = hashlib.sha512(seed).digest()
    scalar = int.from_bytes(digest[:32], "little")
    return scalar & (2**254 - 8) | 2**254, digest[32:]


def public_key(seed: bytes) -> bytes:
    """Return the public key of a 32-byte private seed."""
    return _pack(_times(_expand(seed)[0], _BASE))


def sign(seed: bytes, message: bytes) -> bytes:
    """Return the 64-byte signature of the message under a 32-byte private seed."""
    scalar, prefix = _expand(seed)
    nonce = _number(prefix, message) % _L
    commitment = _pack(_times(nonce, _BASE))
    challenge = _number(commitment, public_key(seed), message) % _L
    return commitment + ((nonce + challenge * scalar) % _L).to_bytes(32, "little")


def acceptable_key(key: bytes) -> bool:
    """Say whether a public key may be trusted at all (docs/security.md).

    The eight points of small order and encodings that are not canonical are refused: with the
    identity as key, one constant signature is valid for every message.
    """
    point = _unpack(key)
    return point is not None and not _equal(_times(8, point), _IDENTITY)


def verify(key: bytes, signature: bytes, message: bytes) -> bool:
    """Say whether the signature is valid, strictly: canonical key, R and S; no small-order key."""
    point = _unpack(key)
    if point is None or len(signature) != 64 or not acceptable_key(key):
        return False
    scalar = int.from_bytes(signature[32:], "little")
    if scalar >= _L:
        return False
    challenge = _number(signature[:32], key, message) % _L
    x, y, z, t = point
    expected = _add(_times(scalar, _BASE), _times(challenge, (_P - x, y, z, _P - t)))
    return _pack(expected) == signature[:32]


@dataclass(frozen=True, slots=True)
class NodeKey:
    """The key by which this node is known."""

    seed: bytes

    @classmethod
    def load(cls, path: Path) -> NodeKey:
        """Read the key, or make it at the first start; only the owner may read the file."""
        if path.exists():
            return cls(base64.b64decode(path.read_text()))
        seed = os.urandom(32)
        write_private(path, base64.b64encode(seed))
        return cls(seed)

    @property
    def public(self) -> str:
        """The public half as base64."""
        return base64.b64encode(public_key(self.seed)).decode()

    def sign(self, message: bytes) -> str:
        """Return the signature of a message as base64."""
        return base64.b64encode(sign(self.seed, message)).decode()


def write_private(path: Path, data: bytes) -> None:
    """Write a small file whole, durably and readable by the owner alone."""
    new = path.with_name(path.name + ".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    new.replace(path)

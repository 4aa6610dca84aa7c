"""Ed25519 keys: the control plane's own, in a file, and those that nodes present."""

import base64
import binascii
import hashlib
import os
import tempfile
from functools import lru_cache
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from django.conf import settings

_KEY_BYTES = 32
_PRIME = 2**255 - 19
_SIGN_BIT = 2**255 - 1
# y of the points of small order: whoever has one as a key signs anything (docs/security.md).
_ORDER_8 = int.from_bytes(
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little"
)
_SMALL_ORDER = frozenset({0, 1, _PRIME - 1, _ORDER_8, _PRIME - _ORDER_8})


class KeyRefused(ValueError):  # noqa: N818 - the name says what happened to the key
    """A public key that is malformed or would make every signature valid."""


def read_public_key(text: str) -> bytes:
    """Return the 32 bytes of a base64 key. Raises KeyRefused (docs/security.md)."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise KeyRefused("The key is not base64.") from error
    if len(raw) != _KEY_BYTES:
        raise KeyRefused("An Ed25519 key has 32 bytes.")
    y = int.from_bytes(raw, "little") & _SIGN_BIT
    if y >= _PRIME or y in _SMALL_ORDER:
        raise KeyRefused("The key is not a usable point.")
    return raw


def fingerprint_of(public_key: bytes) -> str:
    """Return the name by which a person compares keys: sha256 and 64 hexadecimal digits."""
    return f"sha256:{hashlib.sha256(public_key).hexdigest()}"


def is_signed_by(public_key: str, signature: str, message: bytes) -> bool:
    """Say whether this key (base64) made this signature (base64) of the message."""
    try:
        raw = base64.b64decode(signature, validate=True)
        Ed25519PublicKey.from_public_bytes(read_public_key(public_key)).verify(raw, message)
    except (InvalidSignature, binascii.Error, ValueError, TypeError):
        return False
    return True


class ControlKey:
    """The key with which the control plane signs assignments."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        raw = private.public_key().public_bytes_raw()
        self.public_key = base64.b64encode(raw).decode()
        self.fingerprint = fingerprint_of(raw)

    def sign(self, message: bytes) -> bytes:
        """Return the signature, 64 bytes."""
        return self._private.sign(message)


def control_key() -> ControlKey:
    """Return the control plane's key; the first process to ask makes its file (mode 0600)."""
    return _load(Path(settings.CONTROL_KEY_FILE))


@lru_cache(maxsize=4)
def _load(path: Path) -> ControlKey:
    if not path.exists():
        _create(path)
    return ControlKey(Ed25519PrivateKey.from_private_bytes(path.read_bytes()))


def _create(path: Path) -> None:
    """Write a fresh key beside the place and link it there: whole or not at all, once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".control-key-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(Ed25519PrivateKey.generate().private_bytes_raw())
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(name, path)
        except FileExistsError:
            return
    finally:
        Path(name).unlink()

"""The public keys that may log in to an account: what a line says, and the file that holds them."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agent.operations.base import OperationError, at, read, write

# Type of a key -> the number of fields of its blob, the type itself among them (RFC 4253 6.6,
# RFC 5656 3.1, RFC 8709 4, OpenSSH's PROTOCOL.u2f).
_FIELDS = {
    "ssh-rsa": 3,
    "ssh-ed25519": 2,
    "ecdsa-sha2-nistp256": 3,
    "ecdsa-sha2-nistp384": 3,
    "ecdsa-sha2-nistp521": 3,
    "sk-ssh-ed25519@openssh.com": 3,
    "sk-ecdsa-sha2-nistp256@openssh.com": 4,
}
# Options stand before the type; a quoted value of theirs may hold spaces.
_LINE_RE = re.compile(
    r"(?:(?P<options>(?:[^\s\"]|\"(?:[^\"\\]|\\.)*\")+)[ \t]+)??"
    rf"(?P<type>{'|'.join(map(re.escape, _FIELDS))})[ \t]+(?P<blob>[A-Za-z0-9+/]+=*)"
    r"(?:[ \t]+(?P<comment>.*))?"
)
_FINGERPRINT_RE = re.compile(r"(?:SHA256:)?([A-Za-z0-9+/]{43})=?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One public key; `options` are those of its line in authorized_keys."""

    fingerprint: str
    type: str
    comment: str
    options: str = ""


def key_of(line: str) -> Key | None:
    """Return the key of a line of authorized_keys, None where it has no well-formed one."""
    match = _LINE_RE.fullmatch(line.strip())
    if match is None:
        return None
    try:
        blob = base64.b64decode(match["blob"], validate=True)
    except (binascii.Error, ValueError):
        return None
    fields = _fields(blob)
    if fields is None or len(fields) != _FIELDS[match["type"]]:
        return None
    if fields[0] != match["type"].encode() or not all(fields):
        return None
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return Key(
        fingerprint=f"SHA256:{digest}",
        type=match["type"],
        comment=(match["comment"] or "").strip(),
        options=match["options"] or "",
    )


def has_fingerprint(line: str, fingerprint: str) -> bool:
    """Say whether a line of authorized_keys holds the key of this fingerprint."""
    key = key_of(line)
    return key is not None and key.fingerprint == fingerprint


def _fields(blob: bytes) -> list[bytes] | None:
    """Split a blob into its fields, each after its length; None if they do not fill it exactly."""
    found, place = [], 0
    while place < len(blob):
        end = place + 4 + int.from_bytes(blob[place : place + 4])
        if place + 4 > len(blob) or end > len(blob):
            return None
        found.append(blob[place + 4 : end])
        place = end
    return found


def single_key(text: str) -> tuple[str, Key]:
    """Return the line and the key of a text that is one public key and nothing else.

    Options are refused: they can bind a key to a command. Raises OperationError (`invalid_value`).
    """
    line = text.strip()
    key = key_of(line) if line.isprintable() else None
    if key is None or key.options:
        message = "key is not one public key; give the line of a .pub file, without options"
        raise OperationError(message, "invalid_value")
    return line, key


def fingerprint_of(text: str) -> str:
    """Return a SHA256 fingerprint as `ssh-keygen -lf` prints it; the prefix may be left out.

    Raises OperationError (`invalid_value`).
    """
    match = _FINGERPRINT_RE.fullmatch(text)
    if match is None:
        message = f"{text!r} is no fingerprint like SHA256:… of `ssh-keygen -lf`"
        raise OperationError(message, "invalid_value")
    return f"SHA256:{match[1]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFile:
    """The authorized_keys of an account.

    Everything is done with the account's own rights: what it may not reach, it cannot make root
    reach by a link in its home folder.
    """

    home: str
    uid: int
    gid: int

    @property
    def _folder(self) -> str:
        return f"{self.home.rstrip('/')}/.ssh"

    @property
    def _path(self) -> str:
        return f"{self._folder}/authorized_keys"

    def lines(self) -> list[str]:
        """Return the lines as they stand; none where there is no file. Raises OperationError."""
        with self._as_account():
            # A pipe or a device in its place would keep us waiting, or never end.
            if at(self._path).exists() and not at(self._path).is_file():
                raise OperationError(f"{self._path} is not a file", "conflict")
            return read(self._path, "").splitlines()

    def write(self, lines: Sequence[str]) -> None:
        """Make the file hold these lines, owned by the account, mode 0600, its folder 0700.

        Raises OperationError.
        """
        with self._as_account():
            if not at(self.home).is_dir():
                message = f"{self.home} is not there, so it can hold no keys; make the home folder"
                raise OperationError(message, "not_found")
            at(self._folder).mkdir(mode=0o700, exist_ok=True)
            at(self._folder).chmod(0o700)
            # A new file is the account's own whoever owned the one that it replaces.
            write(f"{self._path}.new", "".join(f"{line}\n" for line in lines), 0o600)
            at(f"{self._path}.new").replace(at(self._path))

    def mend_modes(self) -> bool:
        """Set the modes where they are not 0700 and 0600; say whether that changed anything.

        Raises OperationError.
        """
        with self._as_account():
            wanted = {self._folder: 0o700, self._path: 0o600}
            wrong = [path for path, mode in wanted.items() if _mode(path) != mode]
            for path in wrong:
                at(path).chmod(wanted[path])
        return bool(wrong)

    @contextlib.contextmanager
    def _as_account(self) -> Iterator[None]:
        is_root, group, others = os.geteuid() == 0, os.getegid(), os.getgroups()
        if is_root:
            os.setgroups([self.gid])
            os.setegid(self.gid)
            os.seteuid(self.uid)
        try:
            yield
        except OSError as error:
            message = f"the account itself cannot reach {self._path}: {error.strerror}"
            raise OperationError(message) from error
        finally:
            if is_root:
                os.seteuid(0)
                os.setegid(group)
                os.setgroups(others)


def _mode(path: str) -> int:
    return at(path).stat().st_mode & 0o7777

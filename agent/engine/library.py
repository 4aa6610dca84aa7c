"""The engine's C library through ctypes: asked what it refuses, without starting anything."""

from __future__ import annotations

import ctypes
import importlib.util
import mmap
import re
from pathlib import Path

SOURCE = 0
SINK = 1
INVALID = 2


class EngineMissingError(RuntimeError):
    """The engine cannot be had on this node; the text says why."""


class _Bytes(ctypes.Structure):
    _fields_ = (("ptr", ctypes.POINTER(ctypes.c_uint8)), ("len", ctypes.c_size_t))


def library_path() -> Path:
    """Return the Go library inside the wheel; raises EngineMissingError."""
    if importlib.util.find_spec("mq_bridge") is None:
        raise EngineMissingError("the package mq-bridge is not installed")
    spec = importlib.util.find_spec("mq_bridge_connect")
    if spec is None or spec.origin is None:
        raise EngineMissingError("the package mq-bridge-connect is not installed")
    path = Path(spec.origin).with_name("libmq_bridge_connect_go.so")
    if not path.is_file():
        raise EngineMissingError("the package mq-bridge-connect has no library for this platform")
    return path


class Library:
    """The loaded library. 292 MB are mapped: never load it into the agent itself."""

    def __init__(self) -> None:
        self.path = library_path()
        try:
            self._go = ctypes.CDLL(str(self.path))
        except OSError as error:
            raise EngineMissingError(f"the engine library does not load: {error}") from error
        self._go.mqbrp_go_bytes_free.argtypes = (_Bytes,)

    def refusal(self, kind: int, document: str) -> str:
        """Return why a stream document is refused; "" if it was opened (it is closed at once)."""
        text = document.encode()
        handle, error = ctypes.c_uint64(), _Bytes()
        status = self._go.mqbrp_go_stream_open(
            ctypes.c_uint32(kind),
            ctypes.c_char_p(text),
            ctypes.c_size_t(len(text)),
            ctypes.byref(handle),
            ctypes.byref(error),
        )
        if status == 0:
            self._go.mqbrp_go_stream_close(handle, ctypes.c_uint32(1000), ctypes.byref(error))
            return ""
        return self._take(error) or f"refused with status {status}"

    def counter(self, mapping: str) -> Counter:
        """Return a reader of a Bloblang mapping that gives a number."""
        return Counter(self._go, mapping)

    def _take(self, value: _Bytes) -> str:
        return _take(self._go, value).decode(errors="replace")


class Counter:
    """One Bloblang mapping, applied to an empty message each time it is read."""

    EMPTY = (1).to_bytes(4, "little") + bytes(8)

    def __init__(self, go: ctypes.CDLL, mapping: str) -> None:
        self._go = go
        config = f'{{"processors": [{{"mapping": {_quoted(mapping)}}}]}}'.encode()
        handle, error = ctypes.c_uint64(), _Bytes()
        status = go.mqbrp_go_processor_open(
            ctypes.c_char_p(config),
            ctypes.c_size_t(len(config)),
            ctypes.byref(handle),
            ctypes.byref(error),
        )
        if status != 0:
            raise EngineMissingError(_take(go, error).decode(errors="replace"))
        self._handle = handle

    def read(self) -> int:
        """Return the number that the mapping gives now."""
        kept, batch, error = _Bytes(), _Bytes(), _Bytes()
        self._go.mqbrp_go_processor_apply(
            self._handle,
            ctypes.c_char_p(self.EMPTY),
            ctypes.c_size_t(len(self.EMPTY)),
            ctypes.byref(kept),
            ctypes.byref(batch),
            ctypes.byref(error),
        )
        _take(self._go, kept)
        _take(self._go, error)
        blob = _take(self._go, batch)
        size = int.from_bytes(blob[4:8], "little")
        return int(blob[8 : 8 + size] or b"0")


def _take(go: ctypes.CDLL, value: _Bytes) -> bytes:
    if not value.ptr:
        return b""
    try:
        return ctypes.string_at(value.ptr, value.len)
    finally:
        go.mqbrp_go_bytes_free(value)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def build_versions(path: Path) -> tuple[str, str]:
    """Return (engine version, connect version) from the library's own build record."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
        found = []
        for module in (b"benthos/v4", b"connect/v4"):
            name = b"\tgithub.com/redpanda-data/" + module + b"\t"
            at = data.find(name)
            record = data[at + len(name) : at + len(name) + 40] if at >= 0 else b""
            found.append(re.split(rb"[\t\n]", record, maxsplit=1)[0].decode(errors="replace"))
        return found[0], found[1]

"""Makes the agent's one file: `python -m agent.build dist/jobsite-agent.pyz`.

The archive holds this package and the plain-Python part of websockets; it needs Python 3.11 alone.
Equal sources give equal bytes, so its hash can be published.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

SHEBANG = b"#!/usr/bin/env python3\n"
MAIN = 'import sys\n\nfrom agent.__main__ import main\n\nif __name__ == "__main__":\n    sys.exit(main())\n'
# Parts of websockets that a client on asyncio never imports.
_UNUSED = frozenset({"legacy", "sync", "trio", "cli.py", "__main__.py"})
_EPOCH = (1980, 1, 1, 0, 0, 0)


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise SystemExit(f"the package {name} is not installed")
    return Path(spec.origin).parent


def sources() -> Iterator[tuple[str, bytes]]:
    """Yield the name and the text of every file in the archive, sorted."""
    yield "__main__.py", MAIN.encode()
    for name, unused in (("agent", frozenset({"build.py"})), ("websockets", _UNUSED)):
        root = _package(name)
        for path in sorted(root.rglob("*.py")):
            relative = path.relative_to(root)
            if relative.parts[0] not in unused:
                yield f"{name}/{relative.as_posix()}", path.read_bytes()


def build(target: Path) -> str:
    """Write the archive, executable and whole or not at all; return its SHA-256 as hex."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file:
        file.write(SHEBANG)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for name, text in sources():
                archive.writestr(_member(name), text)
        temporary = Path(file.name)
    mask = os.umask(0)
    os.umask(mask)
    temporary.chmod(0o777 & ~mask)
    temporary.replace(target)
    return hashlib.sha256(target.read_bytes()).hexdigest()


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, _EPOCH)
    member.compress_type = zipfile.ZIP_DEFLATED
    member.external_attr = 0o644 << 16
    return member


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m agent.build FILE.pyz")
    print(build(Path(sys.argv[1])), sys.argv[1])

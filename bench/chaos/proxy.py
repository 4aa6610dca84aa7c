"""The network between one agent and the webs, which can be slow, deaf, mute, torn or away."""

import asyncio
import contextlib
import socket
import struct

from bench.chaos.replay import Listener, Tape

CHUNK = 1 << 16


class Link:
    """A TCP proxy for one agent: each new connection goes to a web that answers.

    `up` is from the agent, `down` to it. Silence means that bytes are read and thrown away, so
    that neither side hears of it.
    """

    def __init__(self, ports, host="127.0.0.1"):
        self.ports = ports
        self.host = host
        self.tape = Tape()
        self.port = 0
        self.is_away = False
        self.silent = set()
        self.latency = 0.0
        self.cut_after = None
        self._turn = 0
        self._server = None
        self._lines = set()
        self._tasks = set()

    async def open(self):
        """Listen on a port of its own."""
        self._server = await asyncio.start_server(self._accept, self.host, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self):
        """Cut everything and listen no more."""
        self.reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._server.close()

    def reset(self):
        """Reset every connection: both sides see RST."""
        for writer in list(self._lines):
            _reset(writer)
        self._lines.clear()

    def heal(self):
        """Be a good network again; what was silent is cut, since its bytes are gone."""
        was_silent = bool(self.silent)
        self.is_away, self.latency, self.cut_after = False, 0.0, None
        self.silent.clear()
        if was_silent:
            self.reset()

    async def _accept(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        # A cancelled task of a server is an error to asyncio; here it is the end of the run.
        with contextlib.suppress(asyncio.CancelledError):
            await self._connect(reader, writer)
        self._tasks.discard(asyncio.current_task())

    async def _connect(self, reader, writer):
        web = None if self.is_away else await self._reach_web()
        if web is None:
            _reset(writer)
            return
        web_reader, web_writer = web
        self._lines |= {writer, web_writer}
        try:
            await self._join(reader, writer, web_reader, web_writer)
        finally:
            self._lines -= {writer, web_writer}
            writer.close()
            web_writer.close()

    async def _join(self, reader, writer, web_reader, web_writer):
        pumps = [
            asyncio.create_task(self._pump("up", reader, web_writer)),
            asyncio.create_task(self._pump("down", web_reader, writer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _reach_web(self):
        for _ in self.ports:
            self._turn += 1
            with contextlib.suppress(OSError):
                port = self.ports[self._turn % len(self.ports)]
                return await asyncio.open_connection("127.0.0.1", port)
        return None

    async def _pump(self, way, reader, writer):
        listener = Listener(self.tape) if way == "up" else None
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                if self.latency:
                    await asyncio.sleep(self.latency)
                if way in self.silent:
                    continue
                if self.cut_after is not None:
                    data, torn = data[: self.cut_after], len(data) >= self.cut_after
                    self.cut_after -= len(data)
                    if torn:
                        self.cut_after = None
                        writer.write(data)
                        await writer.drain()
                        self.reset()
                        return
                if listener is not None:
                    listener.feed(data)
                writer.write(data)
                await writer.drain()


def _reset(writer):
    line = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()

"""A websocket client that costs next to nothing: ten thousand of them fit into one process."""

import asyncio
import base64
import os

_MASKED = 0x80
_TEXT, _CLOSE, _PING, _PONG = 0x81, 0x88, 0x89, 0x8A
_SHORT, _LONG = 126, 127


class WireClosedError(OSError):
    """The server's side of the socket is gone, or never was."""


class Wire(asyncio.Protocol):
    """One open socket. Texts go to `on_text`; until that is set they wait for `text()`."""

    def __init__(self, request):
        self._request = request
        self._buffer = bytearray()
        self._waiting = []
        self._loop = asyncio.get_running_loop()
        self._news = None
        self._transport = None
        self._is_open = False
        self.is_mute = False
        self.on_text = None
        self.closed = self._loop.create_future()

    # --- For its owner -----------------------------------------------------------------------

    async def opened(self):
        """Wait until the server has accepted. Raises WireClosedError."""
        while not self._is_open:
            await self._next_news()

    async def text(self):
        """Give the next text. Raises WireClosedError."""
        while not self._waiting:
            await self._next_news()
        return self._waiting.pop(0)

    def listen(self, on_text):
        """Hand every text to a function from here on, those that wait first."""
        self.on_text = on_text
        waiting, self._waiting = self._waiting, []
        for text in waiting:
            on_text(text)

    def send(self, text):
        """Send a text; one to a socket that is gone is lost, as on a real one."""
        if self._is_open and not self.is_mute:
            self._frame(_TEXT, text.encode())

    def cut(self):
        """End it without a word, as a lost network does."""
        self._is_open = False
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.Protocol --------------------------------------------------------------------

    def connection_made(self, transport):
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data):
        if self.is_mute:
            return
        self._buffer += data
        if not self._is_open and not self._read_answer():
            return
        while (frame := self._take_frame()) is not None:
            self._obey(*frame)

    def connection_lost(self, error):
        self._is_open = False
        if not self.closed.done():
            self.closed.set_result(error)
        self._tell()

    # --- Frames (RFC 6455) -------------------------------------------------------------------

    def _read_answer(self):
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        if b" 101 " not in self._buffer[:20]:
            self._transport.abort()
            return False
        del self._buffer[: end + 4]
        self._is_open = True
        self._tell()
        return True

    def _take_frame(self):
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        length, start = buffer[1] & 127, 2
        if length >= _SHORT:
            start = 4 if length == _SHORT else 10
            length = int.from_bytes(buffer[2:start], "big")
        if len(buffer) < start or len(buffer) < start + length:
            return None
        first, payload = buffer[0], bytes(buffer[start : start + length])
        del buffer[: start + length]
        return first, payload

    def _obey(self, first, payload):
        if first == _PING:
            self._frame(_PONG, payload)
        elif first == _CLOSE:
            self._frame(_CLOSE, payload)
            self._is_open = False
            self._transport.close()
        elif first == _TEXT:
            if self.on_text is not None:
                self.on_text(payload)
            else:
                self._waiting.append(payload)
                self._tell()

    def _frame(self, first, payload):
        # A mask of zeros is one that costs nothing.
        length = len(payload)
        if length < _SHORT:
            head = bytes((first, _MASKED | length))
        elif length < 1 << 16:
            head = bytes((first, _MASKED | _SHORT)) + length.to_bytes(2, "big")
        else:
            head = bytes((first, _MASKED | _LONG)) + length.to_bytes(8, "big")
        self._transport.write(head + b"\0\0\0\0" + payload)

    # --- Waiting -----------------------------------------------------------------------------

    async def _next_news(self):
        if self.closed.done():
            raise WireClosedError("the server closed the socket")
        self._news = self._news or self._loop.create_future()
        await self._news

    def _tell(self):
        news, self._news = self._news, None
        if news is not None and not news.done():
            news.set_result(None)


async def dial(port, path, *, headers=""):
    """Open a websocket on this machine. Raises WireClosedError or OSError."""
    key = base64.b64encode(os.urandom(16)).decode()
    request = (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
        f"{headers}\r\n"
    ).encode()
    loop = asyncio.get_running_loop()
    _, wire = await loop.create_connection(lambda: Wire(request), "127.0.0.1", port)
    try:
        await wire.opened()
    except BaseException:
        wire.cut()
        raise
    return wire

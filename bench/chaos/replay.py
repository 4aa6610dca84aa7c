"""Says again what an agent said long ago: ten times, in any order, to the same control plane."""

import asyncio
import json
import struct
from collections import deque

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from agent import keys
from agent.protocol import session_message

TIMES = 10
KEPT_OLDEST, KEPT_NEWEST = 60, 60
LONGEST_FRAME = 1 << 20


class Tape:
    """The frames that an agent sent: the first hello, the oldest and the newest numbered ones."""

    def __init__(self):
        self.hello = None
        self.oldest = []
        self.newest = deque(maxlen=KEPT_NEWEST)

    def take(self, text):
        """Keep a frame if it is of use."""
        frame = json.loads(text)
        if frame.get("type") == "hello":
            self.hello = self.hello or frame
        elif frame.get("seq", 0) > 0:
            kept = self.oldest if len(self.oldest) < KEPT_OLDEST else self.newest
            kept.append((frame["seq"], text))

    def up_to(self, number):
        """Give the frames up to a number: those that were committed."""
        return [text for seq, text in (*self.oldest, *self.newest) if seq <= number]


class Listener:
    """Reads the frames of one websocket from the bytes that a client sends."""

    def __init__(self, tape):
        self._tape = tape
        self._bytes = bytearray()
        self._is_open = False
        self._is_deaf = False

    def feed(self, data):
        """Take the next bytes; a stream that is no websocket is not heard."""
        if self._is_deaf:
            return
        self._bytes += data
        if not self._is_open:
            head, end, rest = self._bytes.partition(b"\r\n\r\n")
            if not end:
                return
            self._is_open, self._bytes = True, rest
            self._is_deaf = b"upgrade: websocket" not in head.lower()
        while not self._is_deaf and (text := self._next()) is not None:
            if text:
                self._tape.take(text)

    def _next(self):
        """Return the text of the next frame, empty for one of another kind, None without one."""
        data = self._bytes
        if len(data) < 2:
            return None
        length, begin = data[1] & 127, 2
        if length > 125:
            size, code = (2, ">H") if length == 126 else (8, ">Q")
            if len(data) < begin + size:
                return None
            (length,) = struct.unpack_from(code, data, begin)
            begin += size
        end = begin + 4 + length
        if len(data) < end or length > LONGEST_FRAME:
            return None
        mask, masked = bytes(data[begin : begin + 4]), bytes(data[begin + 4 : end])
        is_text = data[0] & 15 == 1
        del data[:end]
        return _unmasked(masked, mask).decode() if is_text else ""


def _unmasked(data, mask):
    key = int.from_bytes((mask * (len(data) // 4 + 1))[: len(data)])
    return (int.from_bytes(data) ^ key).to_bytes(len(data))


async def replay(tape, folder, ports, rng):
    """Open the agent's session with its own key and say its committed frames again.

    Returns how many were said; 0 when no web let it in or nothing was committed yet.
    """
    for port in ports:
        try:
            async with asyncio.timeout(5):
                return await _say_again(tape, folder, port, rng)
        except (OSError, WebSocketException, TimeoutError):
            continue
    return 0


async def _say_again(tape, folder, port, rng):
    key = keys.NodeKey.load(folder / "node.key")
    url = f"ws://127.0.0.1:{port}/agent/v1/session"
    async with connect(url, compression=None, max_size=None, open_timeout=3) as line:
        nonce = json.loads(await line.recv())["nonce"]
        signature = key.sign(session_message(nonce, tape.hello["node_id"]))
        await line.send(json.dumps({**tape.hello, "signature": signature}))
        welcome = json.loads(await line.recv())
        frames = tape.up_to(welcome.get("last_up_seq", 0)) * TIMES
        rng.shuffle(frames)
        for text in frames:
            await line.send(text)
        # What was read before this pong was taken in.
        await (await line.ping())
        return len(frames)

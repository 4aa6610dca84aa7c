"""A bare websocket server, the limit of rows 8 to 10: the agents' handshake believed, no database.

An ASGI application for `uvicorn bench.bare:app`: agents are welcomed and their frames dropped; a
text that one member of `/fan` sends goes to all of them.
"""

import asyncio
import base64
import json

from agent.protocol import Challenge, Welcome, decode, encode

_CHALLENGE = encode(Challenge(nonce="bare"))
_KEY = base64.b64encode(bytes(32)).decode()
_fan = set()


async def app(scope, receive, send):
    """Serve one connection."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"bare"})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        serve = _serve_viewer if scope["path"] == "/fan" else _serve_agent
        await serve(receive, send)


async def _serve_agent(receive, send):
    await send({"type": "websocket.send", "text": _CHALLENGE})
    message = await receive()
    if message["type"] != "websocket.receive":
        return
    welcome = Welcome(
        node_id=decode(message["text"]).node_id,
        last_up_seq=0,
        heartbeat_interval=10.0,
        server_time="",
        control_public_key=_KEY,
    )
    await send({"type": "websocket.send", "text": encode(welcome)})
    while (message := await receive())["type"] == "websocket.receive":
        json.loads(message["text"])


async def _serve_viewer(receive, send):
    outbox = asyncio.Queue()
    _fan.add(outbox)
    writer = asyncio.create_task(_write(outbox, send))
    try:
        while (message := await receive())["type"] == "websocket.receive":
            event = {"type": "websocket.send", "text": message["text"]}
            for other in _fan:
                other.put_nowait(event)
    finally:
        _fan.discard(outbox)
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)


async def _write(outbox, send):
    while True:
        await send(await outbox.get())

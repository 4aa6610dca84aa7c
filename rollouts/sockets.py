"""Where the server's sockets of agents begin and end: one gateway for each event loop."""

import asyncio

from rollouts.gateway import Gateway
from rollouts.session import POLICY, Receive, Scope, Send

_gateways: dict[asyncio.AbstractEventLoop, Gateway] = {}


def current_gateway() -> Gateway:
    """Return this event loop's gateway, started now if the server announced no lifespan."""
    loop = asyncio.get_running_loop()
    gateway = _gateways.get(loop)
    if gateway is None:
        for gone in [known for known in _gateways if known.is_closed()]:
            del _gateways[gone]
        gateway = _gateways[loop] = Gateway()
    gateway.start()
    return gateway


async def agent_socket(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve an agent's websocket. A browser, which sends an Origin, is refused."""
    await receive()
    if any(name == b"origin" for name, _ in scope["headers"]):
        await send({"type": "websocket.close", "code": POLICY})
        return
    await current_gateway().serve(receive, send)


async def lifespan(_scope: Scope, receive: Receive, send: Send) -> None:
    """Start the gateway with the server and stop it before the server ends."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            current_gateway()
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            gateway = _gateways.pop(asyncio.get_running_loop(), None)
            if gateway is not None:
                await gateway.stop()
            await send({"type": "lifespan.shutdown.complete"})
            return

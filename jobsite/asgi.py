"""HTTP, browsers' websockets, agents' websockets and the process's own lifespan."""

import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jobsite.settings")
# Consumers import models, and models need the app registry that this call fills.
django.setup(set_prefix=False)

from channels.auth import AuthMiddlewareStack  # noqa: E402 - needs the app registry
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402 - likewise
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402 - likewise
from django.urls import path  # noqa: E402 - likewise

from jobsite.handler import ThreadHandler  # noqa: E402 - likewise
from live.consumers import LiveConsumer  # noqa: E402 - likewise
from rollouts.sockets import agent_socket, lifespan  # noqa: E402 - likewise

# Seconds that a thread may compute before another has its turn (ADR 0018).
SWITCH_INTERVAL = 0.0005
sys.setswitchinterval(SWITCH_INTERVAL)

browser_sockets = AllowedHostsOriginValidator(
    AuthMiddlewareStack(URLRouter([path("ws/live/<slug:noun>/<str:pk>/", LiveConsumer.as_asgi())]))
)


async def websocket(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Agents come by their own path and key; everything else is a browser with a session."""
    if scope["path"] == "/agent/v1/session":
        await agent_socket(scope, receive, send)
    else:
        await browser_sockets(scope, receive, send)


application = ProtocolTypeRouter(
    {"http": ThreadHandler(), "websocket": websocket, "lifespan": lifespan}
)

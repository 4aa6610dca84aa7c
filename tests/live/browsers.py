"""Browsers with a live page open, as the websocket sees them."""

import asyncio
import contextlib

from asgiref.testing import ApplicationCommunicator
from channels.db import database_sync_to_async
from django.conf import settings
from django.test import Client

from jobsite.asgi import browser_sockets

OWN_SITE = b"http://localhost"


def headers(user, origin=OWN_SITE):
    """Return the handshake's headers for a signed-in user, or with None for a stranger."""
    found = [(b"origin", origin)]
    if user is not None:
        client = Client()
        client.force_login(user)
        cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
        found.append((b"cookie", f"{settings.SESSION_COOKIE_NAME}={cookie}".encode()))
    return found


class Socket(ApplicationCommunicator):
    """A browser's end of a websocket."""

    def __init__(self, application, path, given):
        path, _, query = path.partition("?")
        scope = {"type": "websocket", "path": path, "query_string": query.encode()}
        scope["headers"] = given
        super().__init__(application, scope | {"subprotocols": []})

    async def connect(self):
        """Shake hands; say whether the server accepted."""
        await self.send_input({"type": "websocket.connect"})
        return (await self.receive_output(timeout=10))["type"] == "websocket.accept"

    async def receive_from(self, timeout):
        """Return the next text."""
        event = await self.receive_output(timeout=timeout)
        assert event["type"] == "websocket.send", event
        return event["text"]

    async def send_to(self, text_data):
        """Send a text to the server."""
        await self.send_input({"type": "websocket.receive", "text": text_data})

    async def disconnect(self):
        """Close the page, and wait for the server to be done with it."""
        await self.send_input({"type": "websocket.disconnect", "code": 1001})
        await self.wait(timeout=10)


@contextlib.asynccontextmanager
async def browser(address, user, origin=OWN_SITE, query=""):
    """Open a page's socket; gives the communicator once the server has accepted it."""
    given = await in_thread(headers)(user, origin)
    socket = Socket(browser_sockets, f"/ws/live/{address}/{query}", given)
    assert await socket.connect()
    yield socket
    await socket.disconnect()


def in_thread(function):
    """Return the function as a coroutine that runs, and commits, in a thread of its own."""
    return database_sync_to_async(function, thread_sensitive=False)


async def closing_code(socket, deadline=5):
    """Wait for the server to close; what it sends before does not matter."""
    async with asyncio.timeout(deadline):
        while True:
            event = await socket.receive_output(timeout=deadline)
            if event["type"] == "websocket.close":
                return event["code"]

"""The product's ASGI application on a loopback port, in a thread with its own event loop."""

import asyncio
import contextlib
import threading
from pathlib import Path

import uvicorn
from django.conf import settings
from django.db import connections

from tests.waiting import wait_until


class Server:
    """A running uvicorn; `http` and `agents` are its addresses."""

    def __init__(self, *, lifespan="on"):
        Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)
        from jobsite.asgi import application

        config = uvicorn.Config(
            application,
            host="127.0.0.1",
            port=0,
            lifespan=lifespan,
            log_config=None,
            ws="websockets-sansio",
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def start(self):
        """Begin, and return when the port is open."""
        self._thread.start()
        wait_until(lambda: self._server.started, message="uvicorn does not start")
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.http = f"http://127.0.0.1:{port}"
        self.agents = f"ws://127.0.0.1:{port}/agent/v1/session"
        return self

    def stop(self):
        """End it and wait for its end."""
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive(), "the server does not end"


@contextlib.contextmanager
def running_server(**options):
    """Run a server for a while."""
    server = Server(**options).start()
    try:
        yield server
    finally:
        server.stop()


async def in_db(function, *args, **more):
    """Call a function that uses the database, off the test's event loop."""

    def call():
        try:
            return function(*args, **more)
        finally:
            connections.close_all()

    return await asyncio.to_thread(call)

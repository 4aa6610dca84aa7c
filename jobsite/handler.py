"""Answers HTTP requests under ASGI: each whole in one thread, as all middleware and views are sync."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import IO, Any, Protocol, cast

from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.core.handlers.base import BaseHandler
from django.db import DatabaseError, close_old_connections
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix

# Requests answered at a time. They wait for the database more than they compute.
THREADS = 32

# Seconds between two looks at what a response waits for: at first, and at most.
FIRST_PAUSE, LONGEST_PAUSE = 0.03, 0.5
# The member of the scope that tells a view what was waited for.
WAITED = "jobsite.waited"

Event = Mapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]


class Wait(Protocol):
    """What a view leaves at its response as `wait`, so that it is made anew once this is over."""

    seconds: float
    key: str

    def is_over(self) -> bool:
        """Say whether there is nothing more to wait for."""


class ThreadHandler(ASGIHandler):
    """Django's ASGI handler without its way to and fro (ADR 0016).

    Django starts a thread for each request and crosses between it and the event loop for the
    middleware, for each `process_view` and for the view. Here the event loop reads the body, one
    thread of a pool makes the answer, and the event loop sends it: a slow client holds no thread.
    """

    def __init__(self) -> None:
        BaseHandler.__init__(self)
        self.load_middleware(is_async=False)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="http")

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        """Answer one request; a client that goes away before it has asked gets nothing."""
        if scope["type"] != "http":
            raise ValueError(f"expected an HTTP request, got {scope['type']}")
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        loop = asyncio.get_running_loop()
        response = await loop.run_in_executor(self._threads, self._answer, scope, body)
        wait = getattr(response, "wait", None)
        if wait is not None:
            await self._wait_for(wait)
            again = {**scope, WAITED: wait.key}
            response = await loop.run_in_executor(self._threads, self._answer, again, BytesIO())
        await self.send_response(response, send)

    async def _wait_for(self, wait: Wait) -> None:
        """Return when it is over, or its time: a waiting client holds neither thread nor connection."""
        loop = asyncio.get_running_loop()
        end, pause = loop.time() + wait.seconds, FIRST_PAUSE
        with contextlib.suppress(DatabaseError):
            while not await loop.run_in_executor(self._threads, _is_over, wait):
                left = end - loop.time()
                if left <= 0:
                    return
                await asyncio.sleep(min(pause, left))
                pause = min(pause * 1.5, LONGEST_PAUSE)

    def _answer(self, scope: Event, body: IO[bytes]) -> HttpResponseBase:
        """Make the whole answer and give everything back, the database's connection too."""
        with body:
            set_script_prefix(get_script_prefix(scope))
            signals.request_started.send(sender=self.__class__, scope=scope)
            response = None
            try:
                request, refusal = self.create_request(scope, body)
                response = refusal if request is None else self.get_response(request)
                assert response is not None  # one of the two is there
                response._handler_class = self.__class__  # type: ignore[attr-defined]
                return _whole(response)
            finally:
                if response is not None:
                    response.close()
                else:
                    signals.request_finished.send(sender=self.__class__)


def _is_over(wait: Wait) -> bool:
    try:
        return wait.is_over()
    finally:
        close_old_connections()


def _whole(response: HttpResponseBase) -> HttpResponseBase:
    """Return a response whose content is in memory: files are read here, not on the event loop."""
    if not response.streaming:
        return response
    content = b"".join(cast("Iterable[bytes]", response))
    whole = HttpResponse(content, status=response.status_code, headers=response.headers)
    whole.cookies = response.cookies
    return whole

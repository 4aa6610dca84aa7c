"""Answers HTTP requests under ASGI: each whole in one thread, as all middleware and views are sync."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, cast

from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.core.handlers.base import BaseHandler
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix

# Requests answered at a time. They wait for the database more than they compute.
THREADS = 32

Event = Mapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]


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
        await self.send_response(response, send)

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


def _whole(response: HttpResponseBase) -> HttpResponseBase:
    """Return a response whose content is in memory: files are read here, not on the event loop."""
    if not response.streaming:
        return response
    content = b"".join(cast("Iterable[bytes]", response))
    whole = HttpResponse(content, status=response.status_code, headers=response.headers)
    whole.cookies = response.cookies
    return whole

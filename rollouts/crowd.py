"""Answers questions that come at once together: alone when it is quiet, in crowds under load."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class Crowd(Generic[Question, Answer]):
    """Everybody who asks the same kind of question; one function answers up to `most` of them.

    `will_pass` says of an error whether it is nobody's fault: then all that asked are told of it.
    Otherwise each is answered alone, so that one bad question does not spoil the others'.
    """

    def __init__(
        self,
        answer: Callable[[list[Question]], Awaitable[Sequence[Answer]]],
        most: int,
        will_pass: Callable[[Exception], bool],
    ) -> None:
        self._answer = answer
        self._most = most
        self._will_pass = will_pass
        self._waiting: deque[tuple[Question, asyncio.Future[Answer]]] = deque()
        self._came = asyncio.Event()

    async def ask(self, question: Question) -> Answer:
        """Return the answer to a question. Raises what answering it raised."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, future))
        self._came.set()
        return await future

    async def run(self) -> None:
        """Answer until cancelled; who still waits then is told that nobody answers any more."""
        group: list[tuple[Question, asyncio.Future[Answer]]] = []
        try:
            while True:
                await self._came.wait()
                self._came.clear()
                while self._waiting:
                    size = min(self._most, len(self._waiting))
                    group = [self._waiting.popleft() for _ in range(size)]
                    await self._answer_all(group)
        finally:
            for _, future in (*group, *self._waiting):
                if not future.done():
                    future.set_exception(ConnectionError("nobody answers any more"))

    async def _answer_all(self, group: list[tuple[Question, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._answer([question for question, _ in group])
        except Exception as error:
            if len(group) == 1 or self._will_pass(error):
                for _, future in group:
                    if not future.done():
                        future.set_exception(error)
                return
            for one in group:
                await self._answer_all([one])
            return
        for (_, future), answer in zip(group, answers, strict=True):
            if not future.done():
                future.set_result(answer)

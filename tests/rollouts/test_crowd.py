"""Questions that come at once are answered together, and a bad one spoils no other."""

import asyncio

import pytest

from rollouts.crowd import Crowd


class Oracle:
    """Answers numbers by their doubles once it is let go, and remembers who asked together."""

    def __init__(self):
        self.groups, self.free = [], asyncio.Event()

    async def __call__(self, questions):
        await self.free.wait()
        self.groups.append(questions)
        if "bad" in questions:
            raise ValueError("bad")
        if "down" in questions:
            raise OSError("down")
        return [question * 2 for question in questions]


@pytest.fixture
async def oracle():
    return Oracle()


@pytest.fixture
async def crowd(oracle):
    crowd = Crowd(oracle, 10, lambda error: isinstance(error, OSError))
    running = asyncio.create_task(crowd.run())
    yield crowd
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def asked(crowd, questions):
    """Ask all of them, and return when they wait."""
    tasks = [asyncio.create_task(crowd.ask(question)) for question in questions]
    await asyncio.sleep(0)
    return tasks


async def test_those_who_come_while_others_are_answered_are_answered_together(crowd, oracle):
    first = await asked(crowd, [1])
    await asyncio.sleep(0)
    rest = await asked(crowd, range(2, 15))
    oracle.free.set()
    assert await asyncio.gather(*first, *rest) == [2 * n for n in range(1, 15)]
    assert [len(group) for group in oracle.groups] == [1, 10, 3]


async def test_a_bad_question_is_refused_alone(crowd, oracle):
    oracle.free.set()
    tasks = await asked(crowd, [1, "bad", 3])
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert (answers[0], answers[2]) == (2, 6)
    assert isinstance(answers[1], ValueError)


async def test_what_is_nobodys_fault_is_told_to_all_at_once(crowd, oracle):
    oracle.free.set()
    tasks = await asked(crowd, [1, "down", 3])
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(answer, OSError) for answer in answers)
    assert len(oracle.groups) == 1


async def test_who_has_gone_away_holds_up_nobody(crowd, oracle):
    gone, stays = await asked(crowd, [1, 2])
    gone.cancel()
    oracle.free.set()
    assert await stays == 4


async def test_nobody_waits_for_an_answer_that_will_not_come(oracle):
    crowd = Crowd(oracle, 10, lambda error: True)
    running = asyncio.create_task(crowd.run())
    tasks = await asked(crowd, [1])
    await asyncio.sleep(0)
    tasks += await asked(crowd, [2])
    running.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [ConnectionError, ConnectionError]

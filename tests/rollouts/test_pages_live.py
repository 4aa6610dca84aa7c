"""Open pages learn of what happens without asking: pushed boxes of rollouts and executions."""

import asyncio
import re

import pytest

from rollouts import services
from tests.live.browsers import browser, in_thread
from tests.rollouts import fleet

pytestmark = pytest.mark.django_db(transaction=True)
# The promise is one second; a busy test machine gets a little more.
SOON = 3.0


def begin():
    fleet.make_nodes(4)
    return fleet.start(fleet.spec_of(strategy="rolling", max_parallel=100))


async def pushed_until(socket, pattern):
    """Collect what is pushed until it says what is waited for."""
    text = ""
    async with asyncio.timeout(SOON):
        while not re.search(pattern, text):
            text += await socket.receive_from(timeout=SOON)
    return text


def report_on_first(rollout, *make):
    one = fleet.executions(rollout)[0]
    return fleet.report(one, *(frame(one) for frame in make))


def running(execution):
    return fleet.in_state(execution, "running")


async def test_a_pause_reaches_every_open_page_of_the_rollout(cast):
    rollout = await in_thread(begin)()
    async with browser(f"rollout/{rollout.pk}", cast.vera) as socket:
        await pushed_until(socket, "Rolling")
        await in_thread(services.pause_rollout)(fleet.ADA, rollout.job_id)
        text = await pushed_until(socket, "Paused by ada")
    assert f"rollout-{rollout.pk}-when-paused-manual" in text


async def test_a_report_moves_a_mark_on_the_open_page(cast):
    rollout = await in_thread(begin)()
    async with browser(f"rollout/{rollout.pk}", cast.vera) as socket:
        first = await pushed_until(socket, "mark is-starting")
        assert 'class="mark is-validating" href' not in first
        await in_thread(report_on_first)(rollout, fleet.heard, running)
        await pushed_until(socket, 'class="mark is-validating" href')


async def test_an_execution_and_the_dashboard_move_as_well(cast):
    rollout = await in_thread(begin)()
    (one, *_) = await in_thread(fleet.executions)(rollout)
    async with (
        browser(f"execution/{one.pk}", cast.vera) as socket,
        browser("dashboard/prod", cast.vera) as board,
    ):
        await pushed_until(socket, "Pending")
        await pushed_until(board, "log-shipper")
        await in_thread(report_on_first)(rollout, fleet.heard, running)
        await pushed_until(socket, "Validating")
        await in_thread(report_on_first)(rollout, lambda e: fleet.wrote(e, "a line of the log"))
        await pushed_until(socket, "a line of the log")
        await in_thread(services.pause_rollout)(fleet.ADA, rollout.job_id)
        await pushed_until(board, "is paused by a person")

"""The people: pages, live sockets, sign-ins, REST lists and rollouts, at a steady pace."""

import asyncio
import contextlib
import re
from collections import Counter

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

LISTS = ("/jobs", "/executions?limit=20", "/nodes", "/jobs/steady/history", "/jobs/steady/rollouts")
# Seconds between two of each.
PAGE_EVERY, LIST_EVERY, SOCKET_EVERY, SIGN_IN_EVERY = 0.4, 0.3, 1.0, 5.0
# A few jobs that are updated over and over: what their number costs is no leak.
NAMES = [f"soak-{k}" for k in range(4)]
SCRIPT = "echo round {round}; sleep 0.2"


def steady():
    """Return a pipeline that runs all along, with the shortest health interval there is."""
    health = {"interval": "1s", "deadline": "60s", "success_threshold": 2, "failure_threshold": 3}
    return {
        "name": "steady",
        "type": "pipeline",
        "selector": {"target": "_all"},
        "rollout": {"strategy": "rolling", "max_parallel": 100, "health_check": health},
        "config": {
            "input": {"generate": {"interval": "100ms", "mapping": 'root = "steady"'}},
            "output": {"stdout": {}},
        },
    }


def script(name, number):
    """Return the next version of one of the scripts."""
    return {
        "name": name,
        "type": "script",
        "selector": {"target": "_all"},
        "rollout": {"strategy": "rolling", "max_parallel": 50},
        "config": {"runner": "shell", "payload": SCRIPT.format(round=number)},
    }


class Load:
    """All people at once; `done` counts what was done, `wrong` keeps what should not happen."""

    def __init__(self, url, token, user, password):
        self.url = url
        self.done = Counter()
        self.wrong = []
        self._account = {"username": user, "password": password}
        self._rest = httpx.AsyncClient(
            base_url=f"{url}/api/v1", headers={"Authorization": f"Bearer {token}"}, timeout=20
        )
        self._browser = httpx.AsyncClient(base_url=url, timeout=20, follow_redirects=True)
        self._jobs = []

    async def prepare(self):
        """Submit the pipeline and the scripts' first versions, and sign in."""
        for spec in (steady(), *(script(name, 0) for name in NAMES)):
            answer = await self._rest.put("/jobs", json=spec)
            answer.raise_for_status()
            self._jobs.append(answer.json()["job"]["id"])
        await self._sign_in(self._browser)

    async def run(self):
        """Work until cancelled."""
        async with asyncio.TaskGroup() as people:
            for work in (
                self._every(PAGE_EVERY, self._open_page),
                self._every(LIST_EVERY, self._read_list),
                self._every(SOCKET_EVERY, self._watch),
                self._every(SIGN_IN_EVERY, self._come_and_go),
                *(self._roll_out(name) for name in NAMES),
            ):
                people.create_task(work)

    async def close(self):
        """Close the connections."""
        await self._rest.aclose()
        await self._browser.aclose()

    async def _every(self, seconds, step):
        number = 0
        while True:
            await asyncio.sleep(seconds)
            number += 1
            try:
                await step(number)
            except (httpx.HTTPError, WebSocketException, OSError) as error:
                self.wrong.append(f"{step.__name__}: {error!r}")

    def _note(self, kind, answer):
        self.done[kind] += 1
        if answer.status_code >= 400:
            self.wrong.append(f"{answer.request.url.path}: {answer.status_code}")

    # --- what people do ---------------------------------------------------------------------------

    async def _open_page(self, number):
        job = self._jobs[number % len(self._jobs)]
        of_job = (f"/jobs/{job}/", f"/rollouts/of-job/{job}/")
        paths = ("/", "/jobs/", "/nodes/", "/rollouts/", "/executions/", *of_job)
        self._note("pages", await self._browser.get(paths[number % len(paths)]))

    async def _read_list(self, number):
        answer = await self._rest.get(LISTS[number % len(LISTS)])
        self._note("lists", answer)

    async def _watch(self, number):
        """Look at the live page of a job that moves, for as long as it takes to be sent once."""
        job = self._jobs[number % len(self._jobs)]
        cookie = "; ".join(f"{name}={value}" for name, value in self._browser.cookies.items())
        address = f"ws{self.url.removeprefix('http')}/ws/live/job/{job}/"
        headers = {"Cookie": cookie}
        async with connect(address, additional_headers=headers, origin=self.url) as socket:
            await asyncio.wait_for(socket.recv(), 20)
        self.done["sockets"] += 1

    async def _come_and_go(self, _):
        async with httpx.AsyncClient(
            base_url=self.url, timeout=20, follow_redirects=True
        ) as browser:
            await self._sign_in(browser)
            token = browser.cookies["csrftoken"]
            headers = {"X-CSRFToken": token, "Referer": self.url}
            self._note("sign-ins", await browser.post("/sign-out/", headers=headers))

    async def _sign_in(self, browser):
        page = await browser.get("/sign-in/")
        token = re.search(r'csrfmiddlewaretoken" value="([^"]+)', page.text)[1]
        form = {**self._account, "csrfmiddlewaretoken": token}
        answer = await browser.post("/sign-in/", data=form, headers={"Referer": self.url})
        if "session" not in browser.cookies:
            self.wrong.append(f"no sign-in: {answer.status_code}")

    async def _roll_out(self, name):
        """Bring one script's next version to all nodes, again and again."""
        number = 0
        while True:
            number += 1
            with contextlib.suppress(httpx.HTTPError):
                self._note("versions", await self._rest.put("/jobs", json=script(name, number)))
                await self._wait_for_end(name)

    async def _wait_for_end(self, name):
        for _ in range(60):
            await asyncio.sleep(0.5)
            answer = await self._rest.get(f"/jobs/{name}/rollout")
            self._note("lists", answer)
            if answer.json().get("status") in {"completed", "halted", "superseded"}:
                self.done["rollouts"] += 1
                return

"""The users: they submit jobs over REST, and update, pause, resume, promote, cancel and delete."""

import asyncio
import random
from collections import Counter

import httpx

SELECTORS = (
    {"match_labels": {"role": "gateway"}},
    {"match_labels": {"region": "eu-west"}},
    {"match_labels": {"region": "us-east"}},
    {"match_labels": {"tier": "standard"}},
)
ENDED = ("completed", "halted", "cancelled", "superseded")
# One line with one appending write each: no kill of a process takes it back.
SCRIPT = """# {mark}
echo "$JOBSITE_EXECUTION begin" >> "{folder}/$JOBSITE_NODE" || exit 9
{sleeps}
{fails}
echo "$JOBSITE_EXECUTION end" >> "{folder}/$JOBSITE_NODE" || exit 9
"""


class Driver:
    """Some users at once; `accepted` is what they were promised: (job id, version)."""

    def __init__(self, urls, token, folder, seed, users):
        self.folder = folder
        self.accepted = set()
        self.answers = Counter()
        self.unexpected = []
        self._rng = random.Random(f"driver {seed}")
        self._users = users
        self._ending = asyncio.Event()
        self._webs = [
            httpx.AsyncClient(
                base_url=f"{url}/api/v1",
                headers={"Authorization": f"Bearer {token}"},
                timeout=httpx.Timeout(5.0, connect=2.0),
            )
            for url in urls
        ]

    async def run(self):
        """Work until told to end; then bring what is paused to its end."""
        await asyncio.gather(
            *(self._user(k, random.Random(self._rng.random())) for k in range(self._users))
        )

    def end(self):
        """Begin nothing new."""
        self._ending.set()

    async def close(self):
        """Close the connections."""
        for web in self._webs:
            await web.aclose()

    # --- one user -------------------------------------------------------------------------------------

    async def _user(self, k, rng):
        number = 0
        while not self._ending.is_set():
            number += 1
            name = f"user-{k}-{number}"
            for version in range(1, rng.randint(2, 5)):
                spec = self._spec(rng, name, version)
                if self._ending.is_set() or not await self._submit(spec):
                    break
                await self._accompany(rng, name)
            if rng.random() < 0.15:
                await self._ask("DELETE", f"/jobs/{name}")

    def _spec(self, rng, name, version):
        canary = rng.random() < 0.4
        rollout = {"strategy": "rolling", "max_parallel": rng.choice((25, 34, 50, 100))}
        if canary:
            rollout |= {"strategy": "canary", "canary_count": rng.choice((1, 2))}
            rollout |= {"auto_promote": rng.random() < 0.5}
        fails = ""
        if rng.random() < 0.12:
            fails = f'case "$JOBSITE_NODE" in *{rng.randint(0, 9)}) exit 3;; esac'
        else:
            # Faults end some scripts; that is no reason to halt each time.
            rollout |= {"max_failed_nodes_percent": rng.choice((10, 100))}
        seconds = rng.choice((0.0, 0.0, 0.3, 1.0))
        payload = SCRIPT.format(
            mark=f"{name} {version} {rng.random()}",
            folder=self.folder,
            sleeps=f"sleep {seconds}" if seconds else "",
            fails=fails,
        )
        return {
            "name": name,
            "type": "script",
            "selector": rng.choice(SELECTORS),
            "rollout": rollout,
            "config": {"runner": "shell", "payload": payload},
        }

    async def _submit(self, spec):
        """Submit until an answer comes: a repeated submission of an equal spec changes nothing."""
        for _ in range(60):
            answer = await self._ask("PUT", "/jobs", json=spec)
            if answer is not None and answer.status_code in (200, 201):
                job = answer.json()["job"]
                self.accepted.add((job["id"], job["status"]["version"]))
                return True
            if answer is not None and answer.status_code < 500:
                return False
            await asyncio.sleep(0.5)
        return False

    async def _accompany(self, rng, name):
        """Watch a rollout to its end, unless this user does something rash first."""
        rash = rng.choices(("", "pause", "cancel", "update"), (6, 1.5, 1, 1.5))[0]
        patience = rng.uniform(0.3, 3.0)
        for _ in range(90):
            await asyncio.sleep(0.5)
            if self._ending.is_set():
                return
            state = await self._rollout_state(name)
            if state[0] in ENDED:
                return
            patience -= 0.5
            if rash and patience < 0:
                if rash == "update":
                    return
                await self._act(name, rash)
                rash = ""
            elif state == ("paused", "awaiting_promotion"):
                await self._act(name, "promote")
            elif state[0] == "paused":
                await self._act(name, "resume")

    async def _rollout_state(self, name):
        answer = await self._ask("GET", f"/jobs/{name}/rollout")
        if answer is None or answer.status_code != 200:
            return "", ""
        body = answer.json()
        return body["status"], body.get("pause_reason", "")

    async def _act(self, name, verb):
        await self._ask("POST", f"/jobs/{name}/rollout/{verb}", json={})

    async def let_go(self, job_id, reason):
        """End a pause that waits for a person."""
        await self._act(job_id, "promote" if reason == "awaiting_promotion" else "resume")

    async def _ask(self, method, path, **more):
        """Ask one of the webs; None when nobody answers."""
        web = self._rng.choice(self._webs)
        try:
            answer = await web.request(method, path, **more)
        except httpx.HTTPError as error:
            self.answers[type(error).__name__] += 1
            return None
        code = answer.json().get("code", "") if answer.status_code >= 400 else ""
        self.answers[f"{answer.status_code} {code}".strip()] += 1
        if answer.status_code >= 500 and answer.status_code != 503:
            self.unexpected.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
        return answer

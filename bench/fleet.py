"""A simulated fleet: thousands of agents that speak the real protocol and run nothing.

Everything between an agent and the control plane is real: keys, handshake, numbered frames, a
journal that is sent again, back-off. What an execution does is told by a `Script`.
"""

import asyncio
import base64
import contextlib
import json
import time
from collections import Counter
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent.protocol import open_envelope, pre_authentication, to_assignment
from bench.agents import CAPABILITIES, Agent, Member, Script, key_of

AT_ONCE = 100  # sockets that are opened at the same time when the fleet is to come gently


def _public(number):
    return base64.b64encode(key_of(number).public_key().public_bytes_raw()).decode()


def enrol(execute, count, *, agents=0, namespace="default", prefix="gw", connection="connected"):
    """Store trusted, ready nodes as rows; give the first `agents` of them, which have real keys.

    `execute(statement, parameters)` runs a statement. Enrolment itself is not what is measured.
    """
    execute(
        """
        INSERT INTO nodes_node (id, namespace_id, name, hostname, machine_id, os, arch,
            agent_version, hardware_fingerprint, reported_labels, operator_labels, labels,
            capabilities, facts, conditions, resource_usage, max_jobs, connection_state,
            scheduling_state, enrolment_state, drain_evicts, message, connected_since, revision,
            last_edge_seq_num, last_orchestrator_seq_num, public_key, fingerprint, enrolled_by,
            enrollment_source_type, enrollment_identity_uri, enrollment_claims, created_at)
        SELECT uuidv7(), %(namespace)s, %(prefix)s::text || '-' || g, %(prefix)s::text || '-' || g,
            'machine-' || %(prefix)s::text || '-' || g, 'linux', 'amd64', '1', '', '{}', '{}',
            jsonb_build_object('role', 'gateway', 'region', 'r' || g %% 8),
            %(capabilities)s::jsonb, '{}', '[]', '{}', 10, %(connection)s::text, 'ready', 'accepted',
            FALSE, '', CASE WHEN %(connection)s::text = 'connected' THEN now() - interval '1 hour' END, 1,
            0, 0, coalesce((%(keys)s::text[])[g], 'key'), 'fp', '', 'bootstrap_token', '', '{}',
            now()
        FROM generate_series(1, %(count)s) g
        """,
        {
            "namespace": namespace,
            "prefix": prefix,
            "capabilities": json.dumps(CAPABILITIES),
            "connection": connection,
            "keys": [_public(number) for number in range(1, agents + 1)],
            "count": count,
        },
    )
    rows = execute(
        "SELECT id, substr(name, length(%(prefix)s::text) + 2)::int FROM nodes_node "
        "WHERE namespace_id = %(namespace)s AND starts_with(name, %(prefix)s::text || '-') "
        "AND public_key <> 'key' ORDER BY 2",
        {"prefix": prefix, "namespace": namespace},
    )
    return [Member(str(node_id), number) for node_id, number in rows]


class Fleet:
    """All simulated agents of this process. Use it inside an event loop."""

    def __init__(self, url, members, script=None, *, scripts=None):
        self.port = urlsplit(url).port
        self.loop = asyncio.get_running_loop()
        self.gate = contextlib.nullcontext()
        script, scripts = script or Script(), scripts or {}
        self.agents = [Agent(self, m, scripts.get(m.number, script)) for m in members]
        # What happened so far: (when, agent, assignment) in order; states that were reported.
        self.assignments = []
        self.reported = Counter()
        self.live = self.lost = 0
        self._control_key = None
        self._tasks = []
        self._changed = asyncio.Event()

    async def connect(self, deadline=120.0, at_once=AT_ONCE):
        """Bring every agent up, so many at the same time; return when all are live."""
        self.gate = asyncio.Semaphore(at_once)
        self._tasks = [self.loop.create_task(agent.live()) for agent in self.agents]
        await self.until(lambda: self.live == len(self.agents), deadline)
        self.gate = contextlib.nullcontext()

    def cut(self):
        """Lose every connection at the same moment; the agents come back by themselves."""
        for agent in self.agents:
            agent.cut()

    async def until(self, predicate, deadline=30.0):
        """Wait until something is true of the fleet; asked after each change. Raises TimeoutError."""
        async with asyncio.timeout(deadline):
            while not (answer := predicate()):
                self._changed.clear()
                await self._changed.wait()
            return answer

    async def close(self):
        """End all sessions."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def refusals(self):
        """Count why sessions that are not live ended last."""
        return Counter(agent.refused for agent in self.agents if not agent.is_live)

    # --- For the agents ----------------------------------------------------------------------

    def welcome(self, _agent, welcome):
        """Count a session that began."""
        if self._control_key is None:
            raw = base64.b64decode(welcome.control_public_key)
            self._control_key = Ed25519PublicKey.from_public_bytes(raw)
        self.live += 1
        self._changed.set()

    def part(self, _agent):
        """Count a session that ended."""
        self.live -= 1
        self._changed.set()

    def note_assignment(self, agent, assignment):
        """Remember when an execution came to its node."""
        self.assignments.append((time.time(), agent, assignment))
        self._changed.set()

    def note_state(self, state):
        """Count a state that was reported."""
        self.reported[state] += 1
        self._changed.set()

    def open(self, envelope):
        """Verify an envelope as the agent does, and give what it holds."""
        payload, signature, _ = open_envelope(envelope)
        self._control_key.verify(signature, pre_authentication(payload))
        return to_assignment(json.loads(payload))

"""What nodes must be told: desired states they have not confirmed, as signed frames."""

import json
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from agent.protocol import Assign, Assignment, Desired, Frame, make_envelope, pre_authentication
from jobs.models import FileObject, JobVersion
from jobs.object_queries import ObjectKey, contents_of, object_named, with_objects
from jobs.spec import JobSpec, OperationConfig, StackConfig, steps_of
from nodes.keys import ControlKey, control_key
from nodes.operations import OPERATIONS, with_defaults
from rollouts.models import Execution
from rollouts.observation import Rules
from rollouts.sets import as_array, change, fetch
from rollouts.states import DesiredState
from rollouts.terms import terms_of

# How long an assignment may be taken up; a later one is signed anew.
VALIDITY = timedelta(hours=1)
BATCH = 500
# Of the contents of file objects in one batch; each is some 1.8 times as long in its frame.
BATCH_BYTES = 16 * 1024 * 1024
# Ends that stay, and ends that a node may know better (lost).
_GONE = ["completed", "failed", "stopped", "lost"]
_ENDED = ["completed", "failed", "stopped"]
_RULES_KEPT = 4096
# What decides how an execution is judged: its version, its rollout's strategy, its job's type.
RulesKey = tuple[int, str, str]
_rules: dict[RulesKey, Rules] = {}
Objects = Mapping[ObjectKey, FileObject]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One frame for one node, and the desired state that it tells."""

    node_id: UUID
    execution_id: UUID
    desired_seq: int
    frame: Frame


def undelivered(
    node_ids: Iterable[UUID], now: datetime, *, skip: Collection[tuple[UUID, int]] = ()
) -> list[Order]:
    """Return frames that these nodes still have to confirm, two queries for all of them.

    A third where an operation names a file object. Those are long, so a batch ends after some
    MiB; what is left is told at the next look. `skip` names (execution, desired_seq) that were
    sent a moment ago.
    """
    found = fetch(
        "SELECT id, desired_seq FROM rollouts_execution WHERE node_id = ANY(%s::uuid[]) "
        "AND delivered_seq < desired_seq AND desired_state <> 'pending' ORDER BY id LIMIT %s",
        [as_array(node_id.hex for node_id in node_ids), BATCH + len(skip)],
    )
    wanted = [pk for pk, seq in found if (pk, seq) not in skip][:BATCH]
    if not wanted:
        return []
    chosen = Execution.objects.filter(pk__in=wanted).select_related("version", "job", "rollout")
    rows = list(chosen.order_by("pk"))
    objects = contents_of(key for row in rows for key in _objects_named(row))
    orders: list[Order] = []
    key, room = control_key(), BATCH_BYTES
    for row in rows:
        room -= sum(objects[name].size for name in _objects_named(row) if name in objects)
        if room < 0 and orders:
            break
        orders.append(_order(row, key, now, objects))
    return orders


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What a node says it has, as the desired_seq of each execution, and since when it was away."""

    known: Mapping[str, int]
    away_since: datetime | None = None


def meet_node(
    node_id: UUID, known: Mapping[str, int], away_since: datetime | None, now: datetime
) -> list[Frame]:
    """Compare what one node says it has with what it should have: see meet_nodes."""
    return meet_nodes({node_id: Inventory(known=known, away_since=away_since)}, now)[node_id]


def meet_nodes(said: Mapping[UUID, Inventory], now: datetime) -> dict[UUID, list[Frame]]:
    """Compare what nodes say they have with what they should have (docs/semantics.md 4.5).

    What a node confirmed once and lacks now is told again; what is not an execution of this node
    is to be given up: the frames returned. Clocks that stood still while it was away go on
    (docs/semantics.md 1.8). At most three statements for all of them.
    """
    named = [pk for inventory in said.values() for pk in inventory.known]
    rows = fetch(
        "SELECT node_id, id, desired_seq, delivered_seq, observed_state = ANY(%s), "
        "deadline_at IS NULL FROM rollouts_execution WHERE node_id = ANY(%s::uuid[]) "
        "AND (NOT observed_state = ANY(%s) OR desired_state = 'running' OR id = ANY(%s::uuid[]))",
        [_ENDED, as_array(pk.hex for pk in said), _GONE, as_array(named)],
    )
    missing = [
        pk
        for node_id, pk, seq, delivered, ended, _ in rows
        if not ended and delivered > 0 and said[node_id].known.get(str(pk), 0) < seq
    ]
    if missing:
        _forget_delivery(missing)
    back = {
        node_id: since
        for node_id, *_, resting in rows
        if not resting and (since := said[node_id].away_since) is not None
    }
    if back:
        _resume_clocks(back, now)
    ours = {(node_id, str(pk)) for node_id, pk, *_ in rows}
    return {
        node_id: [
            Desired(execution_id=pk, desired_state=DesiredState.STOPPED, desired_seq=seq + 1)
            for pk, seq in sorted(inventory.known.items())
            if (node_id, pk) not in ours
        ]
        for node_id, inventory in said.items()
    }


def _forget_delivery(execution_ids: list[UUID]) -> None:
    change(
        """
        UPDATE rollouts_execution e SET delivered_seq = 0
        FROM (SELECT id FROM rollouts_execution WHERE id = ANY(%s)
              ORDER BY id FOR NO KEY UPDATE) held
        WHERE e.id = held.id
        """,
        [execution_ids],
    )


def _resume_clocks(away_since: Mapping[UUID, datetime], now: datetime) -> None:
    """Move running clocks by the time their node was away, at most to their cap."""
    change(
        """
        UPDATE rollouts_execution e SET deadline_at = least(
            e.deadline_at + (%s - greatest(held.since, coalesce(e.validating_at, e.released_at))),
            coalesce(e.deadline_cap_at, 'infinity'))
        FROM (SELECT x.id, u.since
              FROM unnest(%s::uuid[], %s::timestamptz[]) AS u(node_id, since)
              JOIN rollouts_execution x ON x.node_id = u.node_id AND x.deadline_at IS NOT NULL
              ORDER BY x.id FOR NO KEY UPDATE OF x) held
        WHERE e.id = held.id
        """,
        [now, as_array(pk.hex for pk in away_since), as_array(away_since.values())],
    )


def rules_of(execution: Execution) -> Rules:
    """Return how an execution is judged, from its version and its rollout's strategy."""
    strategy = execution.rollout.strategy if execution.rollout else ""
    key = (execution.version_id, strategy, execution.job.job_type)
    return load_rules({key})[key]


def load_rules(keys: Collection[RulesKey]) -> Mapping[RulesKey, Rules]:
    """Return rules by key; those that this process has not met are read in one query for all.

    A version never changes, so what was read of it is kept in the process.
    """
    unknown = {key for key in keys if key not in _rules}
    if unknown:
        if len(_rules) + len(unknown) > _RULES_KEPT:
            _rules.clear()
            unknown = set(keys)
        versions = JobVersion.objects.in_bulk({version_id for version_id, *_ in unknown})
        for version_id, strategy, job_type in unknown:
            terms = terms_of(versions[version_id], strategy or None)
            _rules[version_id, strategy, job_type] = Rules(
                has_windows=job_type == "pipeline",
                validates=terms.validates,
                is_one_shot=terms.one_shot,
                policy=terms.health,
            )
    return _rules


def _objects_named(execution: Execution) -> Iterator[ObjectKey]:
    if execution.desired_state != DesiredState.RUNNING:
        return
    for step in steps_of(execution.version.spec):
        if name := object_named(step["operation"], step.get("params") or {}):
            yield execution.namespace, name


def _order(execution: Execution, key: ControlKey, now: datetime, objects: Objects) -> Order:
    frame: Frame
    if execution.desired_state == DesiredState.RUNNING:
        frame = Assign(envelope=_sign(_assignment(execution, now, objects), key))
    else:
        frame = Desired(
            execution_id=str(execution.pk),
            desired_state=execution.desired_state,
            desired_seq=execution.desired_seq,
        )
    return Order(
        node_id=execution.node_id,
        execution_id=execution.pk,
        desired_seq=execution.desired_seq,
        frame=frame,
    )


def _assignment(execution: Execution, now: datetime, objects: Objects) -> Assignment:
    spec = JobSpec.model_validate(execution.version.spec)
    rules = rules_of(execution)
    # A revived execution waits for the newer one that failed in its place.
    previous = execution.next_id or execution.previous_id
    return Assignment(
        execution_id=str(execution.pk),
        job_id=str(execution.job_id),
        job_name=execution.job.name,
        job_version=execution.job_version,
        job_type=execution.job.job_type,
        namespace=execution.namespace,
        node_id=str(execution.node_id),
        desired_seq=execution.desired_seq,
        config=_config(spec, execution.version.spec, objects),
        env=_env(execution.version.spec),
        restart_policy=spec.effective_restart_policy,
        execution_timeout=float(spec.effective_execution_timeout) or None,
        interval=rules.policy.interval.total_seconds(),
        validates=rules.validates and execution.stable_at is None,
        previous_execution_id=str(previous) if previous else None,
        not_before=now.isoformat(),
        expires_at=(now + VALIDITY).isoformat(),
        nonce=secrets.token_urlsafe(16),
    )


def _config(spec: JobSpec, stored: Mapping[str, Any], objects: Objects) -> dict[str, Any]:
    config = dict(stored["config"])
    if spec.type == "pipeline" and spec.logger is not None:
        config["logger"] = spec.logger
    if isinstance(spec.config, OperationConfig):
        return _step(config, spec.namespace, objects)
    if isinstance(spec.config, StackConfig):
        config["operations"] = [
            _step(step, spec.namespace, objects) for step in config["operations"]
        ]
    return config


def _step(step: Mapping[str, Any], namespace: str, objects: Objects) -> dict[str, Any]:
    """Return an operation as a node gets it: with defaults, and the object that it names."""
    params = with_defaults(OPERATIONS[step["operation"]], step.get("params") or {})
    return {**step, "params": with_objects(namespace, step["operation"], params, objects)}


def _env(stored: Mapping[str, Any]) -> dict[str, str]:
    env = stored["config"].get("env")
    return {str(name): str(value) for name, value in env.items()} if isinstance(env, dict) else {}


def _sign(assignment: Assignment, key: ControlKey) -> dict[str, str]:
    payload = json.dumps(asdict(assignment), separators=(",", ":"), sort_keys=True).encode()
    return make_envelope(payload, key.sign(pre_authentication(payload)), key.fingerprint)

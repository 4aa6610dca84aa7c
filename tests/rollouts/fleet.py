"""Builders of whole rollouts for tests: nodes, jobs, and reports that really move them.

Everything goes the way of the product: jobs are submitted, nodes report through the ingest, and
the scheduler advances. Nothing is mocked and no state is written by hand.
"""

import itertools
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from django.utils import timezone

from access.services import Actor
from agent.protocol import Ack, Log, ResultReport, State, WindowReport
from jobs.services import Submission, submit_job
from jobs.spec import JobSpec
from nodes.models import Node, NodePresence
from nodes.operations import OPERATIONS
from rollouts.ingest import Incoming, ingest
from rollouts.models import Execution, Rollout
from rollouts.scheduler import reconcile_job

ADA = Actor(name="ada")
_numbers = itertools.count(1)
_seqs = {}

HEALTH = {
    "deadline": "5m",
    "interval": "10s",
    "success_threshold": 2,
    "failure_threshold": 3,
    "max_error_rate": 0.05,
}
CAPABILITIES = {
    "inputs": ["generate"],
    "processors": ["mapping"],
    "outputs": ["drop", "stdout"],
    "runtimes": ["shell"],
    "operations": sorted(OPERATIONS),
}


def make_nodes(count, namespace="prod", *, prefix="gw", labels=None, connection="connected"):
    """Store nodes that are trusted and ready, named prefix-1 and so on."""
    now = timezone.now()
    nodes = []
    for _ in range(count):
        number = next(_numbers)
        merged = {"role": "gateway"} | (labels or {})
        nodes.append(
            Node(
                namespace_id=namespace,
                name=f"{prefix}-{number:03d}",
                hostname=f"{prefix}-{number:03d}",
                machine_id=f"machine-{number}",
                labels=merged,
                reported_labels=merged,
                capabilities=CAPABILITIES,
                connection_state=connection,
                connected_since=now - timedelta(hours=1),
                scheduling_state="ready",
                enrolment_state="accepted",
                public_key=f"key-{number}",
                fingerprint=f"fp-{number}",
                enrolled_at=now,
            )
        )
    Node.objects.bulk_create(nodes)
    machines = [node.machine_id for node in nodes]
    stored = list(Node.objects.filter(machine_id__in=machines).order_by("id"))
    NodePresence.objects.bulk_create(NodePresence(node=node, last_seen_at=now) for node in stored)
    return stored


def spec_of(name="log-shipper", namespace="prod", *, mark="v1", strategy="canary", **rollout):
    """Return the spec of a pipeline for every gateway; `mark` makes versions differ."""
    block = {"strategy": strategy, "max_parallel": 50} | rollout
    if strategy == "canary" and "canary_percent" not in block:
        block.setdefault("canary_count", 1)
    if strategy != "immediate":
        block.setdefault("health_check", HEALTH)
    return JobSpec.model_validate(
        {
            "name": name,
            "namespace": namespace,
            "type": "pipeline",
            "selector": {"match_labels": {"role": "gateway"}},
            "rollout": block,
            "config": {
                "input": {"generate": {"interval": "1s", "mapping": f"root.mark = {mark!r}"}},
                "output": {"stdout": {}},
            },
        }
    )


def script_of(name="kernel-query", namespace="prod"):
    """Return the spec of one-shot work for every gateway."""
    return JobSpec.model_validate(
        {
            "name": name,
            "namespace": namespace,
            "type": "script",
            "selector": {"match_labels": {"role": "gateway"}},
            "config": {"runner": "shell", "payload": "uname -r"},
        }
    )


def start(spec, *, reason="", actor=ADA):
    """Submit a spec and let its rollout begin; give the rollout."""
    done = submit_job(actor, Submission(spec=spec, reason=reason))
    reconcile_job(done.job.pk, trigger="job-register")
    return Rollout.objects.select_related("job", "version").get(version=done.version)


def executions(rollout, *states):
    """Give the executions of a rollout in the order of its nodes, in some states or in all."""
    found = Execution.objects.filter(rollout=rollout).select_related("node", "job")
    if states:
        found = found.filter(observed_state__in=states)
    return list(found.order_by("id"))


def report(execution, *frames):
    """Let a node report about one of its executions, and the scheduler look at the job."""
    tell(execution, *frames)
    reconcile_job(execution.job_id)
    execution.refresh_from_db()
    return execution


def tell(execution, *frames):
    """Let a node report about one of its executions."""
    batch = []
    for frame in frames:
        _seqs[execution.node_id] = _seqs.get(execution.node_id, 0) + 1
        numbered = replace(frame, seq=_seqs[execution.node_id])
        batch.append(Incoming(node_id=execution.node_id, frame=numbered))
    ingest(batch)


def heard(execution):
    """The node knows what it should do."""
    return Ack(execution_id=str(execution.pk), desired_seq=execution.desired_seq)


def in_state(execution, state, **more):
    """A report of a state."""
    return State(execution_id=str(execution.pk), observed_state=state, **more)


def windows(execution, *rates, first=None):
    """Reports of health windows with these error rates (0 to 1), of 1,000 messages each."""
    now, begin = timezone.now(), first or execution.window_count + 1
    return [
        WindowReport(
            execution_id=str(execution.pk),
            number=number,
            started_at=(now - timedelta(seconds=10)).isoformat(),
            ended_at=now.isoformat(),
            messages_in=1000,
            messages_ok=1000 - round(1000 * rate),
            errors=round(1000 * rate),
            cpu_percent=12.5,
            rss_bytes=61_000_000,
            last_error="x509: certificate signed by unknown authority" if rate > 0.05 else "",
        )
        for number, rate in enumerate(rates, start=begin)
    ]


def wrote(execution, *lines, stream="stdout", number=1):
    """A report of log lines."""
    return Log(
        execution_id=str(execution.pk),
        number=number,
        stream=stream,
        lines=list(lines),
        at=timezone.now().isoformat(),
    )


def ended(execution, status="completed", **more):
    """A report of a result."""
    return ResultReport(execution_id=str(execution.pk), status=status, **more)


def take_up(execution):
    """The node starts an execution and its health is watched."""
    return report(
        execution,
        heard(execution),
        in_state(execution, "starting"),
        in_state(execution, "running"),
    )


def become_stable(execution):
    """The node starts an execution and it passes validation."""
    take_up(execution)
    return report(execution, *windows(execution, 0.0, 0.01))


def become_bad(execution):
    """The node starts an execution and it fails validation."""
    take_up(execution)
    return report(execution, *windows(execution, 1.0, 0.9, 1.0))


def stop_what_should(job_id):
    """Let every node confirm what it was told to stop."""
    told = Execution.objects.filter(job=job_id, desired_state="stopped", observed_state="stopping")
    for execution in told:
        report(execution, heard(execution), in_state(execution, "stopped"))


def settle(rollout, limit=200):
    """Bring a rollout as far as it goes by itself with healthy nodes; give it as it is then."""
    for _ in range(limit):
        stop_what_should(rollout.job_id)
        waiting = executions(rollout, "pending", "starting", "validating")
        if not waiting:
            break
        for execution in waiting:
            become_stable(execution)
    rollout.refresh_from_db()
    return rollout


def completed(spec):
    """Submit a spec and bring its rollout to its end, its canary promoted."""
    from rollouts.services import promote_rollout

    rollout = settle(start(spec))
    if rollout.pause_reason == "awaiting_promotion":
        promote_rollout(ADA, UUID(str(rollout.job_id)))
        rollout = settle(rollout)
    assert rollout.state == "completed", (rollout.state, rollout.waiting_on)
    return rollout

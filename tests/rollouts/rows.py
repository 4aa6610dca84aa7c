"""Rows that the tests of reports begin with: a node, a job with one version, an execution."""

import itertools
import uuid
from datetime import timedelta

from django.utils import timezone

from access.models import Namespace
from jobs.models import Job, JobVersion
from nodes.enrolment import Newcomer, enrol_node, issue_enrolment_token
from rollouts.models import Execution
from tests.rollouts.agent_client import new_key

_names = itertools.count(1)
HEALTH = {"deadline": 60_000_000_000, "interval": 10_000_000_000}


def make_node(namespace="prod", *, labels=None, auto_accept=True, machine_id=None):
    """Enrol a node; return it and its private key."""
    Namespace.objects.get_or_create(name=namespace)
    token = issue_enrolment_token(namespace, auto_accept=auto_accept, labels=labels or {})
    private, public = new_key()
    name = f"edge-{next(_names)}"
    newcomer = Newcomer(
        machine_id=machine_id or str(uuid.uuid4()), public_key=public, hostname=name, name=name
    )
    return enrol_node(token, newcomer), private


def pipeline_spec(name, *, strategy="rolling", **health):
    """Return a stored pipeline spec with a health check."""
    return {
        "name": name,
        "namespace": "prod",
        "type": "pipeline",
        "priority": 50,
        "restart_policy": "on-failure",
        "config": {"input": {"generate": {}}, "output": {"drop": {}}},
        "rollout": {"strategy": strategy, "health_check": HEALTH | health},
    }


def script_spec(name):
    """Return a stored script spec."""
    return {
        "name": name,
        "namespace": "prod",
        "type": "script",
        "priority": 50,
        "restart_policy": "never",
        "config": {"runner": "shell", "payload": "true", "env": {"A": "1"}},
    }


def make_job(spec=None):
    """Store a job with its first version."""
    now = timezone.now()
    spec = spec or pipeline_spec(f"job-{next(_names)}")
    Namespace.objects.get_or_create(name="prod")
    job = Job.objects.create(
        namespace_id="prod", name=spec["name"], job_type=spec["type"], updated_at=now
    )
    JobVersion.objects.create(
        job=job, number=1, spec=spec, spec_hash="s" * 64, run_hash="r" * 64, created_at=now
    )
    return job


def make_execution(node, job=None, **values):
    """Store an execution that was just released."""
    job = job or make_job()
    now = timezone.now()
    columns = {
        "namespace": "prod",
        "job": job,
        "version": job.versions.get(number=1),
        "job_version": 1,
        "run_hash": "r" * 64,
        "node": node,
        "desired_state": "running",
        "released_at": now,
        "deadline_at": now + timedelta(seconds=60),
        "deadline_cap_at": now + timedelta(seconds=120),
        "created_at": now,
        "updated_at": now,
    } | values
    return Execution.objects.create(**columns)

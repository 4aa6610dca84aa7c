"""What Celery may be rung for: each one service call, right however often it runs."""

from celery import shared_task

from rollouts import retention, scheduler, silence, sweeps


@shared_task(name="rollouts.reconcile_job")
def reconcile_job(job_id: str) -> None:
    """Look at one job, if it is due."""
    scheduler.answer_bell(job_id)


@shared_task(name="rollouts.reconcile_due")
def reconcile_due() -> None:
    """Look at every job that is due."""
    scheduler.sweep_due()


@shared_task(name="rollouts.evaluate_health")
def evaluate_health() -> None:
    """Judge deadlines and silence."""
    silence.judge_silence()


@shared_task(name="rollouts.absorb_nodes")
def absorb_nodes() -> None:
    """Make jobs look at nodes that changed."""
    sweeps.absorb_nodes()
    scheduler.sweep_due()


@shared_task(name="rollouts.expire_rows")
def expire_rows() -> None:
    """Drop what retention no longer keeps."""
    retention.expire_rows()

"""What Celery may be rung for: one service call, right however often it runs."""

from celery import shared_task

from nodes.services import mark_silent_nodes


@shared_task(name="nodes.sweep_silent_nodes")
def sweep_silent_nodes() -> None:
    """Mark nodes that have not been heard."""
    mark_silent_nodes()

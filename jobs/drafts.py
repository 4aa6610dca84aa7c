"""Texts that their writers have not submitted: kept and forgotten, one for each person and job."""

from uuid import UUID

from django.utils import timezone

from jobs.models import Job, JobDraft


def save_draft(user_id: int, job_id: UUID | None, base_version: int, text: str) -> None:
    """Keep a text that its writer has not submitted; one for each person and job."""
    job = None if job_id is None else Job(pk=job_id)
    JobDraft.objects.update_or_create(
        user_id=user_id,
        job=job,
        defaults={"base_version": base_version, "text": text, "updated_at": timezone.now()},
    )


def discard_draft(user_id: int, job_id: UUID | None) -> None:
    """Forget a draft; nothing happens when there is none."""
    drafts = JobDraft.objects.filter(user_id=user_id)
    found = drafts.filter(job__isnull=True) if job_id is None else drafts.filter(job_id=job_id)
    found.delete()

"""The Django app: what it is called, and what it registers when it is ready."""

from django.apps import AppConfig


class JobsConfig(AppConfig):
    name = "jobs"

    def ready(self) -> None:
        """Offer the live boxes to the push and the count to the rail; both need models."""
        from access.context import register_count  # noqa: PLC0415 - models are loaded only now
        from jobs.fragments import JOB  # noqa: PLC0415 - likewise
        from jobs.list_page import count_jobs  # noqa: PLC0415 - likewise
        from live.registry import register  # noqa: PLC0415 - likewise

        register(JOB)
        register_count("job_count", count_jobs)

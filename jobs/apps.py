"""The Django app: what it is called, and what it registers when it is ready."""

from django.apps import AppConfig

from live.registry import register


class JobsConfig(AppConfig):
    name = "jobs"

    def ready(self) -> None:
        """Offer the live boxes to the push and the count to the rail."""
        from access.context import register_count  # noqa: PLC0415 - models are loaded only now

        register("job", "jobs.fragments.JOB")
        register_count("job_count", "jobs.list_page.count_jobs")

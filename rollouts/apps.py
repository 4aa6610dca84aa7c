"""The Django app: what it is called, and what it registers when it is ready."""

from django.apps import AppConfig

from live.registry import register


class RolloutsConfig(AppConfig):
    name = "rollouts"

    def ready(self) -> None:
        """Hand the planner to the jobs app, the live boxes to the push, the count to the rail."""
        from access.context import register_count  # noqa: PLC0415 - models are loaded only now
        from jobs.planning import provide  # noqa: PLC0415 - likewise
        from rollouts.dry_run import plan_spec  # noqa: PLC0415 - likewise
        from rollouts.lookup import version_outcomes  # noqa: PLC0415 - likewise
        from rollouts.records import rollout_states  # noqa: PLC0415 - likewise

        provide(plan_spec, rollout_states, version_outcomes)
        for noun in ("rollout", "execution", "dashboard"):
            register(noun, f"rollouts.fragments.{noun.upper()}")
        register_count("attention_count", "rollouts.overview.attention_count")

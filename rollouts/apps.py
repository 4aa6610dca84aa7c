"""The Django app: what it is called, and what it registers when it is ready."""

from django.apps import AppConfig


class RolloutsConfig(AppConfig):
    name = "rollouts"

    def ready(self) -> None:
        """Hand the planner to the jobs app and the live boxes to the push; both need models."""
        from jobs.planning import provide  # noqa: PLC0415 - models are loaded only now
        from rollouts.dry_run import plan_spec  # noqa: PLC0415 - likewise
        from rollouts.lookup import version_outcomes  # noqa: PLC0415 - likewise
        from rollouts.records import rollout_states  # noqa: PLC0415 - likewise

        provide(plan_spec, rollout_states, version_outcomes)

        from access.context import register_count  # noqa: PLC0415 - likewise
        from live.registry import register  # noqa: PLC0415 - likewise
        from rollouts.fragments import NOUNS  # noqa: PLC0415 - likewise
        from rollouts.overview import attention_count  # noqa: PLC0415 - likewise

        for noun in NOUNS:
            register(noun)
        register_count("attention_count", attention_count)

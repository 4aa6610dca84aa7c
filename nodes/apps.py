"""The Django app: what it is called, and what it registers when it is ready."""

from django.apps import AppConfig

from live.registry import register


class NodesConfig(AppConfig):
    name = "nodes"

    def ready(self) -> None:
        """Offer the live boxes to the push and the count to the rail."""
        from access.context import register_count  # noqa: PLC0415 - models are loaded only now

        register("node", "nodes.fragments.NODE")
        register_count("node_count", "nodes.queries.count_nodes")

"""The Django app: what it is called, and what it registers when it is ready."""

from django.apps import AppConfig


class NodesConfig(AppConfig):
    name = "nodes"

    def ready(self) -> None:
        """Offer the live boxes to the push and the count to the rail; both need models."""
        from access.context import register_count  # noqa: PLC0415 - models are loaded only now
        from live.registry import register  # noqa: PLC0415 - likewise
        from nodes.fragments import NODE  # noqa: PLC0415 - likewise
        from nodes.queries import count_nodes  # noqa: PLC0415 - likewise

        register(NODE)
        register_count("node_count", count_nodes)

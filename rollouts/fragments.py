"""The live boxes of this app: which noun has which parts, and who may look at them."""

from live.registry import Fragment, Noun
from rollouts import (
    board,
    board_limits,
    board_tabs,
    comparison,
    execution_page,
    overview,
    tab_counts,
)
from rollouts.queries import may_read_execution, may_read_rollout
from rollouts.scope import load_scope

ROLLOUT = Noun(
    name="rollout",
    may_read=may_read_rollout,
    load=board.load_board,
    fragments=tuple(
        Fragment(noun="rollout", name=name, template=f"rollouts/_rollout_{name}.html", query=query)
        for name, query in {
            "head": board.head_view,
            "alert": board_limits.alert_view,
            "waves": board.waves_view,
            "nodes": board.nodes_view,
            "budget": board_limits.budget_view,
            "why": board_limits.why_view,
            "failures": board_tabs.failures_view,
            "events": board_tabs.events_view,
            "decisions": board_tabs.decisions_view,
            "health": board_tabs.health_view,
            "canary": comparison.comparison_view,
            "failures_count": tab_counts.failures_count_view,
            "events_count": tab_counts.events_count_view,
            "decisions_count": tab_counts.decisions_count_view,
        }.items()
    ),
)

# A rollout's page shows one of these at a time, under its open tab.
TABBED = frozenset({"failures", "events", "decisions", "health"})


def parts_beside(tab: str) -> list[str]:
    """Return the boxes that a rollout's page shows with this tab open."""
    names = [fragment.name for fragment in ROLLOUT.fragments]
    return [name for name in names if name == tab or name not in TABBED]


EXECUTION = Noun(
    name="execution",
    may_read=may_read_execution,
    load=execution_page.load_execution,
    fragments=tuple(
        Fragment(
            noun="execution", name=name, template=f"rollouts/_execution_{name}.html", query=query
        )
        for name, query in {
            "head": execution_page.head_view,
            "windows": execution_page.windows_view,
            "log": execution_page.log_view,
            "result": execution_page.result_view,
            "life": execution_page.life_view,
        }.items()
    ),
)

DASHBOARD = Noun(
    name="dashboard",
    may_read=overview.may_read_overview,
    load=load_scope,
    fragments=tuple(
        Fragment(
            noun="dashboard", name=name, template=f"rollouts/_dashboard_{name}.html", query=query
        )
        for name, query in {
            "attention": overview.attention_view,
            "rolling": overview.rolling_view,
            "fleet": overview.fleet_view,
            "activity": overview.activity_view,
            "steps": overview.steps_view,
        }.items()
    ),
)

"""Which tests one worker runs after another, because they share a running product."""

from xdist.scheduler import LoadScopeScheduling

# A product takes its time to start, and more than a few at once would starve each other.
GROUPS = {
    "tests/e2e/test_faults.py": "fleet",
    "tests/e2e/test_operations.py": "fleet",
    "tests/e2e/test_walk_by_rest.py": "fleet",
    "tests/e2e/test_walk_in_browser.py": "fleet",
    "tests/e2e/test_chaos.py": "processes",
    "tests/jobsite/test_own_servers.py": "processes",
    "tests/jobsite/test_up.py": "processes",
    "tests/rollouts/test_real_agent.py": "processes",
    "tests/jobs/test_editor_browser.py": "browser",
    "tests/live/test_components_in_browser.py": "browser",
    "tests/rollouts/test_large_rollout_in_browser.py": "browser",
}


class Together(LoadScopeScheduling):
    """Gives a group to one worker, the largest first, and every other test to whoever is free."""

    def _split_scope(self, nodeid):
        return GROUPS.get(nodeid.partition("::")[0], nodeid)

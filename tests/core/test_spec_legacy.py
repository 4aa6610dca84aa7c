"""The older schema: refused with a hint, or translated with warnings (docs/semantics.md 1.1)."""

import pytest

from jobs.problems import SpecRefused
from jobs.spec import parse_spec

BASE = {"name": "a", "type": "pipeline", "config": {"input": {"stdin": {}}}}
HEALTH = {"deadline": "5m"}


def translated(deployment, fleet_size=None):
    return parse_spec(BASE | {"deployment": deployment}, compat=True, fleet_size=fleet_size)


def paths(parsed):
    return [w.path for w in parsed.warnings if w.code == "legacy_translated"]


def test_without_compat_a_deployment_is_refused_with_a_hint():
    with pytest.raises(SpecRefused) as refused:
        parse_spec(BASE | {"deployment": {"strategy": "rolling"}})
    (problem,) = refused.value.problems
    assert (problem.code, problem.path) == ("legacy_field", "/deployment")
    assert "rollout" in problem.hint
    assert "compat=1" in problem.hint


@pytest.mark.parametrize("extra", [{"deployment": 5}, {"deployment": {}, "rollout": {}}])
def test_what_cannot_be_translated_stays_refused(extra):
    with pytest.raises(SpecRefused) as refused:
        parse_spec(BASE | extra, compat=True)
    assert refused.value.code == "legacy_field"


@pytest.mark.parametrize(
    ("count", "fleet_size", "percent"), [(1, 3, 34), (2, 10, 20), (5, 3, 100), (0, None, 100)]
)
def test_a_count_of_nodes_becomes_a_percentage(count, fleet_size, percent):
    deployment = {"strategy": "rolling", "max_parallel": count, "health_check": HEALTH}
    parsed = translated(deployment, fleet_size)
    assert parsed.spec.rollout.max_parallel == percent
    assert paths(parsed) == ["/deployment", "/deployment/max_parallel"]


@pytest.mark.parametrize("fleet_size", [None, 0])
def test_a_count_of_an_unknown_fleet_takes_the_default(fleet_size):
    deployment = {"strategy": "rolling", "max_parallel": 3, "health_check": HEALTH}
    parsed = translated(deployment, fleet_size)
    assert parsed.spec.rollout.max_parallel == 10
    assert "/deployment/max_parallel" in paths(parsed)


@pytest.mark.parametrize("old", [True, False])
def test_automatic_rollback_is_turned_round(old):
    parsed = translated({"auto_rollback": old})
    assert parsed.spec.rollout.no_auto_rollback is not old
    assert paths(parsed) == ["/deployment", "/deployment/auto_rollback"]


@pytest.mark.parametrize("probe", [{"type": "http"}, {"endpoint": "/ready"}])
def test_a_probe_is_dropped(probe):
    parsed = translated({"health_check": HEALTH | probe})
    assert parsed.spec.rollout.health_check is None
    assert paths(parsed) == ["/deployment", "/deployment/health_check"]


@pytest.mark.parametrize(("time", "windows"), [("30s", 3), ("31s", 4), ("0s", 1)])
def test_a_healthy_time_becomes_windows_in_a_row(time, windows):
    parsed = translated({"health_check": HEALTH | {"min_healthy_time": time}})
    assert parsed.spec.rollout.health_check.success_threshold == windows
    assert paths(parsed) == ["/deployment", "/deployment/health_check/min_healthy_time"]


@pytest.mark.parametrize(
    ("deployment", "path"),
    [
        ({"max_parallel": "2"}, "/rollout/max_parallel"),
        ({"max_parallel": -1}, "/rollout/max_parallel"),
        ({"auto_rollback": "no"}, "/rollout/auto_rollback"),
        ({"health_check": 5}, "/rollout/health_check"),
        (
            {"health_check": HEALTH | {"min_healthy_time": 30}},
            "/rollout/health_check/min_healthy_time",
        ),
    ],
)
def test_malformed_members_are_refused_as_they_stand(deployment, path):
    with pytest.raises(SpecRefused) as refused:
        translated(deployment)
    assert refused.value.problems[0].path == path

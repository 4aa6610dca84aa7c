"""The rules of ARCHITECTURE.md that no linter knows; each is shown a case that breaks it."""

import ast
import re
from pathlib import Path

import pytest
from celery import current_app
from django.conf import settings
from django.template.loader import get_template

from live.registry import all_nouns

ROOT = Path(__file__).resolve().parent.parent
APPS = ("access", "agent", "jobs", "jobsite", "live", "nodes", "rollouts")
DOORS = ("views.py", "api.py", "agent_api.py", "tasks.py", "consumers.py")
# Files that write rows; everything else asks them.
WRITERS = ("services.py", "lifecycle.py", "subjects.py", "enrolment.py", "presence.py")
# Longer than 400 lines for a reason; never above 600.
LONG = {
    "nodes/operations.py": "one table of 95 rows",
    "rollouts/planner.py": "the one decision function, with its worked examples",
    "rollouts/models.py": "the rows of one noun, and why each index is there",
    "rollouts/gateway.py": "the loops of one process, and why each waits as it does",
    "nodes/services.py": "every change of a node's three axes",
    "agent/runners/script.py": "one runner, from folder to exit code",
}


def sources():
    for app in APPS:
        for path in sorted((ROOT / app).rglob("*.py")):
            if "migrations" not in path.parts:
                yield path


def saves_a_row(text):
    """Say whether code calls .save() on something."""
    calls = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
    return any(isinstance(c.func, ast.Attribute) and c.func.attr == "save" for c in calls)


def reaches_rows(text):
    """Say whether code goes to rows by a manager of its own."""
    tree = ast.walk(ast.parse(text))
    return any(isinstance(node, ast.Attribute) and node.attr == "objects" for node in tree)


def assigns_a_state(text):
    """Say whether code sets a row's state field."""
    for node in ast.walk(ast.parse(text)):
        targets = node.targets if isinstance(node, ast.Assign) else []
        for target in targets:
            if isinstance(target, ast.Attribute) and re.fullmatch(r"\w*_?state", target.attr):
                return True
    return False


@pytest.mark.parametrize(
    ("rule", "bad", "good"),
    [
        (saves_a_row, "job.save()", "save(job)"),
        (reaches_rows, "Job.objects.get(pk=1)", "find_job(user, key)"),
        (assigns_a_state, "rollout.state = 'paused'", "state = 'paused'"),
    ],
)
def test_each_rule_can_fail(rule, bad, good):
    assert rule(bad)
    assert not rule(good)


def test_rows_are_saved_by_writers_only():
    guilty = [p for p in sources() if p.name not in WRITERS and saves_a_row(p.read_text())]
    assert guilty == []


def test_doors_reach_rows_through_queries_and_services_only():
    guilty = [p for p in sources() if p.name in DOORS and reaches_rows(p.read_text())]
    assert guilty == []


def test_no_template_names_a_manager():
    guilty = [p for p in (ROOT / "templates").rglob("*.html") if ".objects" in p.read_text()]
    assert guilty == []


def test_states_of_rows_are_assigned_by_writers_only():
    pure_or_agent = {"agent", "simulator.py", "fleet.py", "fleet_clock.py"}
    guilty = [
        path
        for path in sources()
        if path.name not in WRITERS
        and not pure_or_agent & {path.name, path.relative_to(ROOT).parts[0]}
        and assigns_a_state(path.read_text())
    ]
    assert guilty == []


def test_modules_are_short_or_say_why():
    lengths = {
        str(path.relative_to(ROOT)): path.read_text().count("\n")
        for path in sources()
        if path.name != "names.py"
    }
    long = {name for name, lines in lengths.items() if lines > 400}
    assert long == long & LONG.keys(), "split it by noun, or say why it is long"
    assert max(lengths.values()) <= 600


def test_every_module_says_what_lives_in_it():
    guilty = [
        path
        for path in sources()
        if path.read_text().strip() and ast.get_docstring(ast.parse(path.read_text())) is None
    ]
    assert guilty == []


def test_every_ring_of_beat_and_of_services_has_a_function():
    current_app.loader.import_default_modules()
    rung = {entry["task"] for entry in current_app.conf.beat_schedule.values()}
    rung.add("rollouts.reconcile_job")
    assert rung <= set(current_app.tasks)


def test_no_message_is_meant_for_later():
    words = re.compile(r"\b(countdown|eta|apply_async|AsyncResult)\b")
    guilty = [path for path in sources() if words.search(path.read_text())]
    assert guilty == []


def test_every_live_fragment_is_a_file_named_as_its_id():
    nouns = all_nouns()
    assert {noun.name for noun in nouns} >= {"rollout", "execution", "job", "node"}
    for noun in nouns:
        for fragment in noun.fragments:
            assert fragment.noun == noun.name
            assert fragment.template.endswith(f"_{noun.name}_{fragment.name}.html")
            get_template(fragment.template)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CELERY_TASK_ACKS_LATE", True),
        ("CELERY_TASK_REJECT_ON_WORKER_LOST", True),
        ("CELERY_TASK_IGNORE_RESULT", True),
        ("CELERY_WORKER_PREFETCH_MULTIPLIER", 1),
        ("CELERY_TASK_TIME_LIMIT", 30),
        ("CELERY_TASK_SOFT_TIME_LIMIT", 20),
        ("CELERY_BROKER_CONNECTION_MAX_RETRIES", None),
        ("CELERY_WORKER_MAX_TASKS_PER_CHILD", 500),
        ("CELERY_ACCEPT_CONTENT", ["json"]),
        ("CELERY_TASK_SERIALIZER", "json"),
        ("SESSION_COOKIE_HTTPONLY", True),
        ("SECURE_CONTENT_TYPE_NOSNIFF", True),
    ],
)
def test_day_one_settings_are_not_tuned_away(name, value):
    assert getattr(settings, name) == value


def test_a_message_is_given_back_only_after_no_task_can_still_run():
    assert (
        settings.CELERY_BROKER_TRANSPORT_OPTIONS["visibility_timeout"]
        > settings.CELERY_TASK_TIME_LIMIT
    )


def test_no_connection_outlives_its_request():
    database = settings.DATABASES["default"]
    assert database["CONN_MAX_AGE"] == 0
    assert database["ATOMIC_REQUESTS"] is False
    assert database["OPTIONS"]["pool"]["max_size"] >= 2


def test_scripts_come_from_us_alone():
    policy = settings.CONTENT_SECURITY_POLICY["DIRECTIVES"]
    allowed = {str(source) for source in policy["script-src"]}
    assert not {"'unsafe-inline'", "'unsafe-eval'", "*"} & allowed

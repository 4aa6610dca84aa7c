"""Drops what is kept for a time only: every table with its time, oldest first, in small batches.

Rollouts with their targets, executions and results, versions and the audit log are kept for as
long as their job is; what is here grows with time alone, and would do so for ever (docs/semantics.md 4.13).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection
from django.utils import timezone

BATCH = 5000
# A row whose clock was ahead must not hide those behind it, so more is looked at than is dropped.
SCAN = 4 * BATCH
# Seconds of one run; the next goes on where it stopped.
BUDGET = 10.0
# Any number: it names the lock that says who drops.
LOCK = 74_686_512
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What goes: rows of `table` whose `at` is longer ago than `age`, if `where` holds of `r`.

    Without an age it is RETENTION_DAYS. The rows are taken in the order of `key`, which rises with
    time, so that no index on `at` has to be paid for with every row that is written.
    """

    table: str
    at: str
    where: str = "true"
    age: timedelta | None = None
    key: str = "id"

    @property
    def statement(self) -> str:
        """The SQL that drops one batch; its parameters are the numbers scanned, time and batch."""
        return f"""
            DELETE FROM {self.table} WHERE {self.key} IN (
                SELECT old.key FROM (
                    SELECT r.{self.key} AS key, r.{self.at} AS at FROM {self.table} r
                    WHERE {self.where} ORDER BY r.{self.key} LIMIT %s
                ) old WHERE old.at < %s LIMIT %s)
        """  # noqa: S608 - all parts are constants of this module


RULES = (
    Rule(table="rollouts_healthwindow", at="ended_at"),
    Rule(table="rollouts_logchunk", at="at"),
    # What a decision placed goes on naming it, and a rollout that goes on may still need its own.
    Rule(
        table="rollouts_evaluation",
        at="created_at",
        where="NOT EXISTS (SELECT 1 FROM rollouts_execution e WHERE e.evaluation_id = r.id) "
        "AND NOT EXISTS (SELECT 1 FROM rollouts_rollout o WHERE o.id = r.rollout_id "
        "AND o.state IN ('active', 'paused'))",
    ),
    # What happened to the job and its rollouts stays: that is little, and its history.
    Rule(table="jobs_event", at="at", where="r.execution_id IS NOT NULL"),
    Rule(table="nodes_nodeevent", at="at"),
    Rule(table="nodes_ingestgap", at="ended_at"),
    Rule(table="nodes_enrolmenttoken", at="expires_at"),
    Rule(table="access_signinlink", at="expires_at"),
    Rule(table="access_apitoken", at="expiry", where="r.expiry IS NOT NULL", key="digest"),
    Rule(table="access_usednonce", at="used_at", age=DAY),
    Rule(table="django_session", at="expire_date", age=timedelta(0), key="session_key"),
)


def expire_rows(rules: Sequence[Rule] = RULES, budget: float = BUDGET) -> int:
    """Drop what retention no longer keeps, and say how many rows; 0 while another process does.

    Each batch is a transaction of its own, the tables take turns, and after `budget` seconds it
    leaves the rest to the next run. RETENTION_DAYS = 0 keeps everything that has no age of its own.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
        if cursor.fetchone() != (True,):
            return 0
        try:
            return _drop_all(rules, timezone.now(), time.monotonic() + budget)
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [LOCK])


def _drop_all(rules: Sequence[Rule], now: datetime, end: float) -> int:
    dropped = 0
    unfinished = [rule for rule in rules if _age_of(rule) is not None]
    while unfinished and time.monotonic() < end:
        for rule in tuple(unfinished):
            count = _drop_batch(rule, now)
            dropped += count
            if count < BATCH:
                unfinished.remove(rule)
    return dropped


def _age_of(rule: Rule) -> timedelta | None:
    return rule.age if rule.age is not None else settings.RETENTION or None


def _drop_batch(rule: Rule, now: datetime) -> int:
    before = now - (_age_of(rule) or timedelta(0))
    # Tables whose key is random have few rows; the oldest of the others come first.
    scan = SCAN if rule.key == "id" else None
    with connection.cursor() as cursor:
        cursor.execute(rule.statement, [scan, before, BATCH])
        return int(cursor.rowcount)

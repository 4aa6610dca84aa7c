"""A rollout's nodes counted by place and look, kept in step by the database (ADR 0012)."""

from collections.abc import Iterator

import django.db.models.deletion
from django.db import migrations, models

# Nested loops over what a statement has touched would cost its square, and plans are kept.
HEAD = "RETURNS trigger LANGUAGE plpgsql SET enable_nestloop = off SET enable_mergejoin = off AS $$"
# The look of a target, found by its key row by row.
SEEN = """coalesce((SELECT e.observed_state FROM rollouts_execution e
    WHERE e.rollout_id = t.rollout_id AND e.node_id = t.node_id
    ORDER BY e.created_at DESC, e.id DESC LIMIT 1), '')"""
ADD = """
INSERT INTO rollouts_rollouttally AS kept (rollout_id, wave, state, ring, seen, count, moves)
SELECT d.rollout_id, d.wave, d.state, d.ring, d.seen, sum(d.n), 0 FROM ({deltas}) d
GROUP BY 1, 2, 3, 4, 5 HAVING sum(d.n) <> 0 ORDER BY 1, 2, 3, 4, 5
ON CONFLICT (rollout_id, wave, state, ring, seen) DO UPDATE SET count = kept.count + EXCLUDED.count;
"""
# A rollout that is deleted takes its tally along: nothing may be added to it then.
TAKE = """
UPDATE rollouts_rollouttally kept SET count = kept.count + x.n FROM (
    SELECT d.rollout_id, d.wave, d.state, d.ring, d.seen, sum(d.n) AS n FROM ({deltas}) d
    GROUP BY 1, 2, 3, 4, 5) x
WHERE (kept.rollout_id, kept.wave, kept.state, kept.ring, kept.seen)
    = (x.rollout_id, x.wave, x.state, x.ring, x.seen);
"""
MOVES = """
INSERT INTO rollouts_rollouttally AS kept (rollout_id, wave, state, ring, seen, count, moves)
SELECT rollout_id, 0, '', 0, '', 0, {sum} FROM {rows} GROUP BY rollout_id ORDER BY rollout_id
ON CONFLICT (rollout_id, wave, state, ring, seen) DO UPDATE SET moves = kept.moves + EXCLUDED.moves;
"""
# Nodes that left are shown nowhere, and their executions are taken from the rollout when they return.
OF_TARGETS = f"""
SELECT t.rollout_id, t.wave, t.state, t.ring, {SEEN} AS seen, {{n}} AS n
FROM {{rows}} t WHERE t.state <> 'left'"""  # noqa: S608 - fragments of our own
TARGETS_CHANGED = f"""
WITH moved AS MATERIALIZED (
    SELECT t.rollout_id, w.wave AS old_wave, w.state AS old_state, w.ring AS old_ring,
        t.wave, t.state, t.ring, {SEEN} AS seen
    FROM was w JOIN become t ON t.id = w.id
    WHERE t.wave <> w.wave OR t.state <> w.state OR t.ring <> w.ring
)
SELECT rollout_id, old_wave AS wave, old_state AS state, old_ring AS ring, seen, -1 AS n
FROM moved WHERE old_state <> 'left'
UNION ALL SELECT rollout_id, wave, state, ring, seen, 1 FROM moved WHERE state <> 'left'"""  # noqa: S608 - likewise
# Executions that moved, with their target: what it was counted as goes, what it is comes.
OF_EXECUTIONS = """
WITH placed AS MATERIALIZED (
    SELECT m.before, m.after, (SELECT t FROM rollouts_rollouttarget t
        WHERE t.rollout_id = m.rollout_id AND t.node_id = m.node_id) AS t
    FROM ({moved}) m
), known AS MATERIALIZED (
    SELECT before, after, (t).rollout_id, (t).wave, (t).state, (t).ring FROM placed
    WHERE (t).state <> 'left'
)
SELECT rollout_id, wave, state, ring, before AS seen, -1 AS n FROM known
UNION ALL SELECT rollout_id, wave, state, ring, after, 1 FROM known"""
CHANGED = """
SELECT n.rollout_id, n.node_id, w.observed_state AS before, n.observed_state AS after
FROM was w JOIN become n ON n.id = w.id
WHERE n.rollout_id = w.rollout_id AND n.observed_state <> w.observed_state"""
MOVED = """(SELECT n.rollout_id, n.revision - w.revision AS step FROM was w JOIN become n ON n.id = w.id
    WHERE n.rollout_id = w.rollout_id AND n.revision > w.revision) steps"""

BODIES = {
    ("rollouttarget", "insert", "NEW TABLE AS become"): ADD.format(
        deltas=OF_TARGETS.format(rows="become", n=1)
    ),
    ("rollouttarget", "update", "OLD TABLE AS was NEW TABLE AS become"): ADD.format(
        deltas=TARGETS_CHANGED
    ),
    ("rollouttarget", "delete", "OLD TABLE AS was"): TAKE.format(
        deltas=OF_TARGETS.format(rows="was", n=-1)
    ),
    ("execution", "insert", "NEW TABLE AS become"): ADD.format(
        deltas=OF_EXECUTIONS.format(
            moved="SELECT rollout_id, node_id, '' AS before, observed_state AS after "
            "FROM become WHERE rollout_id IS NOT NULL"
        )
    )
    + MOVES.format(
        sum="sum(revision)", rows="(SELECT * FROM become WHERE rollout_id IS NOT NULL) placed"
    ),
    ("execution", "update", "OLD TABLE AS was NEW TABLE AS become"): f"""
IF EXISTS ({CHANGED}) THEN {ADD.format(deltas=OF_EXECUTIONS.format(moved=CHANGED))} END IF;
{MOVES.format(sum="sum(step)", rows=MOVED)}""",
    ("execution", "delete", "OLD TABLE AS was"): TAKE.format(
        deltas=OF_EXECUTIONS.format(
            moved="SELECT rollout_id, node_id, observed_state AS before, '' AS after "
            "FROM was WHERE rollout_id IS NOT NULL"
        )
    ),
}
BACKFILL = f"""
INSERT INTO rollouts_rollouttally (rollout_id, wave, state, ring, seen, count, moves)
SELECT rollout_id, wave, state, ring, seen, sum(n), 0
FROM ({OF_TARGETS.format(rows="rollouts_rollouttarget", n=1)}) d GROUP BY 1, 2, 3, 4, 5;
INSERT INTO rollouts_rollouttally (rollout_id, wave, state, ring, seen, count, moves)
SELECT rollout_id, 0, '', 0, '', 0, sum(revision) FROM rollouts_execution
WHERE rollout_id IS NOT NULL GROUP BY rollout_id;
"""  # noqa: S608 - likewise


def _triggers() -> Iterator[migrations.RunSQL]:
    for (table, verb, seen), body in BODIES.items():
        name = f"tally_{table}_{verb}"
        yield migrations.RunSQL(
            f"CREATE FUNCTION jobsite_{name}() {HEAD} BEGIN {body} RETURN NULL; END $$;"
            f"CREATE TRIGGER {name} AFTER {verb.upper()} ON rollouts_{table} REFERENCING {seen} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION jobsite_{name}();",
            f"DROP TRIGGER {name} ON rollouts_{table}; DROP FUNCTION jobsite_{name};",
        )


class Migration(migrations.Migration):
    dependencies = [("rollouts", "0005_guards")]

    operations = [
        migrations.CreateModel(
            name="RolloutTally",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("wave", models.PositiveIntegerField()),
                ("state", models.CharField(max_length=12)),
                ("ring", models.PositiveIntegerField()),
                ("seen", models.CharField(max_length=12)),
                ("count", models.BigIntegerField()),
                ("moves", models.BigIntegerField()),
                (
                    "rollout",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="tallies",
                        to="rollouts.rollout",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("rollout", "wave", "state", "ring", "seen"), name="tally_once"
                    )
                ]
            },
        ),
        migrations.AddIndex(
            model_name="execution",
            index=models.Index(
                condition=models.Q(("observed_state__in", ["failed", "lost"])),
                fields=["rollout"],
                name="execution_failed",
            ),
        ),
        migrations.AddIndex(
            model_name="execution",
            index=models.Index(
                condition=models.Q(("unhealthy_streak__gt", 0)),
                fields=["rollout", "-unhealthy_streak"],
                name="execution_unwell",
            ),
        ),
        migrations.RunSQL(BACKFILL, migrations.RunSQL.noop),
        *_triggers(),
    ]

"""A job's executions counted by desired and observed state, kept by the database (ADR 0017)."""

from collections.abc import Iterator

import django.db.models.deletion
from django.db import migrations, models

# As for the tallies of rollouts (0006): a migration stands for itself.
HEAD = "RETURNS trigger LANGUAGE plpgsql SET enable_nestloop = off SET enable_mergejoin = off AS $$"
ADD = """
INSERT INTO rollouts_jobtally AS kept (job_id, desired_state, observed_state, count)
SELECT d.job_id, d.desired_state, d.observed_state, sum(d.n) FROM ({deltas}) d
GROUP BY 1, 2, 3 HAVING sum(d.n) <> 0 ORDER BY 1, 2, 3
ON CONFLICT (job_id, desired_state, observed_state)
DO UPDATE SET count = kept.count + EXCLUDED.count;
"""
# A job that is deleted takes its tally along: nothing may be added to it then.
TAKE = """
UPDATE rollouts_jobtally kept SET count = kept.count - x.n FROM (
    SELECT job_id, desired_state, observed_state, count(*) AS n FROM was GROUP BY 1, 2, 3) x
WHERE (kept.job_id, kept.desired_state, kept.observed_state)
    = (x.job_id, x.desired_state, x.observed_state);
"""
PLACED = "SELECT job_id, desired_state, observed_state, 1 AS n FROM become"
CHANGED = """
WITH moved AS MATERIALIZED (
    SELECT n.job_id, w.desired_state AS old_desired, w.observed_state AS old_observed,
        n.desired_state, n.observed_state
    FROM was w JOIN become n ON n.id = w.id
    WHERE (n.desired_state, n.observed_state) <> (w.desired_state, w.observed_state)
)
SELECT job_id, old_desired AS desired_state, old_observed AS observed_state, -1 AS n FROM moved
UNION ALL SELECT job_id, desired_state, observed_state, 1 FROM moved"""
BODIES = {
    ("insert", "NEW TABLE AS become"): ADD.format(deltas=PLACED),
    ("update", "OLD TABLE AS was NEW TABLE AS become"): ADD.format(deltas=CHANGED),
    ("delete", "OLD TABLE AS was"): TAKE,
}
BACKFILL = """
INSERT INTO rollouts_jobtally (job_id, desired_state, observed_state, count)
SELECT job_id, desired_state, observed_state, count(*) FROM rollouts_execution GROUP BY 1, 2, 3
"""


def _triggers() -> Iterator[migrations.RunSQL]:
    for (verb, seen), body in BODIES.items():
        name = f"job_tally_{verb}"
        yield migrations.RunSQL(
            f"CREATE FUNCTION jobsite_{name}() {HEAD} BEGIN {body} RETURN NULL; END $$;"
            f"CREATE TRIGGER {name} AFTER {verb.upper()} ON rollouts_execution REFERENCING {seen} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION jobsite_{name}();",
            f"DROP TRIGGER {name} ON rollouts_execution; DROP FUNCTION jobsite_{name};",
        )


class Migration(migrations.Migration):
    dependencies = [
        ("jobs", "0004_versions_whole"),
        ("rollouts", "0009_target_by_wave"),
    ]

    operations = [
        migrations.CreateModel(
            name="JobTally",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("desired_state", models.CharField(max_length=8)),
                ("observed_state", models.CharField(max_length=12)),
                ("count", models.BigIntegerField()),
                (
                    "job",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="tallies",
                        to="jobs.job",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("job", "desired_state", "observed_state"), name="job_tally_once"
                    )
                ]
            },
        ),
        migrations.AddIndex(
            model_name="execution",
            index=models.Index(
                condition=models.Q(
                    ("desired_state", "stopped"),
                    ("next__isnull", True),
                    ("observed_state", "failed"),
                ),
                fields=["job", "job_version"],
                name="execution_given_up",
            ),
        ),
        # Few rows that change with every report: room in their pages keeps them in place.
        migrations.RunSQL(
            "ALTER TABLE rollouts_jobtally SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05)",
            "ALTER TABLE rollouts_jobtally RESET (fillfactor, autovacuum_vacuum_scale_factor)",
        ),
        migrations.RunSQL(BACKFILL, migrations.RunSQL.noop),
        *_triggers(),
    ]

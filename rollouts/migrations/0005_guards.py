"""What no writer may do, held by the database: move stable_at, or let a revision fall."""

from django.db import migrations

FUNCTION = """
CREATE FUNCTION jobsite_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%: % of % may not change so', TG_TABLE_NAME, TG_ARGV[0], OLD.id
        USING ERRCODE = 'check_violation';
END $$;
"""
STABLE = """
CREATE TRIGGER execution_stable_at_once BEFORE UPDATE OF stable_at ON rollouts_execution
FOR EACH ROW WHEN (OLD.stable_at IS NOT NULL AND NEW.stable_at IS DISTINCT FROM OLD.stable_at)
EXECUTE FUNCTION jobsite_refuse_change('stable_at');
"""
REVISION = """
CREATE TRIGGER {name}_revision_never_falls BEFORE UPDATE OF revision ON {table}
FOR EACH ROW WHEN (NEW.revision < OLD.revision)
EXECUTE FUNCTION jobsite_refuse_change('revision');
"""
VERSION = """
CREATE TRIGGER job_version_never_falls BEFORE UPDATE OF version ON jobs_job
FOR EACH ROW WHEN (NEW.version < OLD.version)
EXECUTE FUNCTION jobsite_refuse_change('version');
"""
TABLES = {
    "job": "jobs_job",
    "rollout": "rollouts_rollout",
    "execution": "rollouts_execution",
    "node": "nodes_node",
}


class Migration(migrations.Migration):
    dependencies = [
        ("rollouts", "0004_indexes_of_sets"),
        ("jobs", "0001_initial"),
        ("nodes", "0002_storage"),
    ]

    operations = [
        migrations.RunSQL(FUNCTION, "DROP FUNCTION jobsite_refuse_change;"),
        migrations.RunSQL(STABLE, "DROP TRIGGER execution_stable_at_once ON rollouts_execution;"),
        migrations.RunSQL(VERSION, "DROP TRIGGER job_version_never_falls ON jobs_job;"),
        *(
            migrations.RunSQL(
                REVISION.format(name=name, table=table),
                f"DROP TRIGGER {name}_revision_never_falls ON {table};",
            )
            for name, table in TABLES.items()
        ),
    ]

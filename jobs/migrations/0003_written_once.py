"""What no writer may do, held by the database: change what a version is, or rewrite an event."""

from django.db import migrations

FUNCTION = """
CREATE FUNCTION jobs_refuse_rewrite() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%: row % is written once', TG_TABLE_NAME, OLD.id
        USING ERRCODE = 'check_violation';
END $$;
"""
# Deleting stays possible: a job's rows go with it.
VERSION = """
CREATE TRIGGER job_version_written_once
BEFORE UPDATE OF job_id, number, spec, spec_hash, run_hash ON jobs_jobversion
FOR EACH ROW WHEN ((OLD.job_id, OLD.number, OLD.spec, OLD.spec_hash, OLD.run_hash)
    IS DISTINCT FROM (NEW.job_id, NEW.number, NEW.spec, NEW.spec_hash, NEW.run_hash))
EXECUTE FUNCTION jobs_refuse_rewrite();
"""
EVENT = """
CREATE TRIGGER event_written_once BEFORE UPDATE ON jobs_event
FOR EACH ROW EXECUTE FUNCTION jobs_refuse_rewrite();
"""


class Migration(migrations.Migration):
    dependencies = [("jobs", "0002_events_without_second_index")]

    operations = [
        migrations.RunSQL(FUNCTION, "DROP FUNCTION jobs_refuse_rewrite;"),
        migrations.RunSQL(VERSION, "DROP TRIGGER job_version_written_once ON jobs_jobversion;"),
        migrations.RunSQL(EVENT, "DROP TRIGGER event_written_once ON jobs_event;"),
    ]

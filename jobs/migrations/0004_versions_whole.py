"""A version's row never changes at all, and a job's, which every report numbers, keeps its room."""

from django.db import migrations

WHOLE = """
DROP TRIGGER job_version_written_once ON jobs_jobversion;
CREATE TRIGGER job_version_written_once BEFORE UPDATE ON jobs_jobversion
FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION jobs_refuse_rewrite();
"""
IN_PART = """
DROP TRIGGER job_version_written_once ON jobs_jobversion;
CREATE TRIGGER job_version_written_once
BEFORE UPDATE OF job_id, number, spec, spec_hash, run_hash ON jobs_jobversion
FOR EACH ROW WHEN ((OLD.job_id, OLD.number, OLD.spec, OLD.spec_hash, OLD.run_hash)
    IS DISTINCT FROM (NEW.job_id, NEW.number, NEW.spec, NEW.spec_hash, NEW.run_hash))
EXECUTE FUNCTION jobs_refuse_rewrite();
"""


class Migration(migrations.Migration):
    dependencies = [("jobs", "0003_written_once")]

    operations = [
        migrations.RunSQL(WHOLE, IN_PART),
        migrations.RunSQL(
            "ALTER TABLE jobs_job SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05)",
            "ALTER TABLE jobs_job RESET (fillfactor, autovacuum_vacuum_scale_factor)",
        ),
    ]

"""Room on each page for rows that are written again and again, and early cleaning after them."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("rollouts", "0001_initial")]

    operations = [
        migrations.RunSQL(
            "ALTER TABLE rollouts_execution SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02)",
            "ALTER TABLE rollouts_execution RESET (fillfactor, autovacuum_vacuum_scale_factor)",
        )
    ]

"""Lists of executions by state and by version, at any depth and however few there are."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("rollouts", "0007_refused_work")]

    operations = [
        migrations.AddIndex(
            model_name="execution",
            index=models.Index(
                fields=["namespace", "observed_state", "-created_at", "-id"],
                name="execution_by_state",
            ),
        ),
        migrations.AddIndex(
            model_name="execution",
            index=models.Index(
                fields=["namespace", "job_version", "-created_at", "-id"],
                name="execution_by_version",
            ),
        ),
    ]

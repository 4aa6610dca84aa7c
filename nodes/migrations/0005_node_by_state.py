"""What the dashboard and the fleet's page count: nodes by their three axes, from the index alone."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("nodes", "0004_room_for_numbers")]

    operations = [
        migrations.AddIndex(
            model_name="node",
            index=models.Index(
                fields=["namespace", "connection_state", "scheduling_state", "enrolment_state"],
                name="node_by_state",
            ),
        ),
    ]

"""When a node's session opened: silence before it says nothing of the node's work."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("nodes", "0002_storage")]

    operations = [
        migrations.AddField(
            model_name="nodepresence",
            name="session_since",
            field=models.DateTimeField(blank=True, null=True),
        )
    ]

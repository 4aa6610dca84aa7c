"""Pages of nodes keep room, so that a new acknowledged number touches no index (ADR 0014)."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("nodes", "0003_session_since")]

    operations = [
        migrations.RunSQL(
            "ALTER TABLE nodes_node SET (fillfactor = 70)",
            "ALTER TABLE nodes_node RESET (fillfactor)",
        )
    ]

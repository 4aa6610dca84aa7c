"""Targets by wave for opened waves alone.

While a rollout's targets are being written, statistics say that a rollout has few of them. An index
of all targets by rollout and wave then looks as good as the unique one by rollout and node, and each
execution placed reads all targets of its rollout: a wave costs its square. A condition that a search
by node does not imply keeps the index out of such plans, whatever the statistics say.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("rollouts", "0008_lists")]

    operations = [
        migrations.RemoveIndex(model_name="rollouttarget", name="target_by_wave"),
        migrations.AddIndex(
            model_name="rollouttarget",
            index=models.Index(
                condition=models.Q(("wave__gt", 0)),
                fields=["rollout", "wave"],
                name="target_by_wave",
            ),
        ),
    ]

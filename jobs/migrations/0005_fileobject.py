"""Files of a namespace that operations put onto nodes."""

import django.db.models.deletion
from django.db import migrations, models

import nodes.models


class Migration(migrations.Migration):
    dependencies = [
        ("access", "0001_initial"),
        ("jobs", "0004_versions_whole"),
    ]

    operations = [
        migrations.CreateModel(
            name="FileObject",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        db_default=nodes.models.UuidV7(),
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("name", models.CharField(max_length=255)),
                ("content", models.BinaryField()),
                ("sha256", models.CharField(max_length=64)),
                ("size", models.PositiveIntegerField()),
                (
                    "content_type",
                    models.CharField(
                        choices=[("raw", "raw"), ("template", "template")],
                        default="raw",
                        max_length=8,
                    ),
                ),
                ("created_by", models.CharField(blank=True, default="", max_length=150)),
                ("created_at", models.DateTimeField()),
                ("updated_by", models.CharField(blank=True, default="", max_length=150)),
                ("updated_at", models.DateTimeField()),
                (
                    "namespace",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="file_objects",
                        to="access.namespace",
                    ),
                ),
            ],
            options={
                "ordering": ["namespace_id", "name"],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("namespace", "name"), name="file_object_once_per_namespace"
                    )
                ],
            },
        ),
    ]

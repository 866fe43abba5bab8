"""The groups of staff: Support, Operations, Finance, Read-only."""

from django.db import migrations

from stations import roles


def make(apps, schema_editor):
    roles.ensure(apps)


class Migration(migrations.Migration):
    dependencies = [
        ("stations", "0005_entry_claims"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [migrations.RunPython(make, migrations.RunPython.noop)]

"""Health has a permission of its own; Read-only sees neither people nor journal nor health."""

from django.db import migrations

from stations import roles


def put_right(apps, schema_editor):
    roles.ensure(apps)
    group = apps.get_model("auth", "Group").objects.get(name="Read-only")
    inside = [label.partition(".")[2] for label in roles.INSIDE]
    group.permissions.remove(
        *group.permissions.filter(content_type__app_label="stations", codename__in=inside)
    )


class Migration(migrations.Migration):
    dependencies = [("stations", "0007_health_permission")]

    operations = [migrations.RunPython(put_right, migrations.RunPython.noop)]

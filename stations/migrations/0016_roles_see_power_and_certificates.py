"""Who sees the network sees reservations, charging profiles and certificates too."""

from django.db import migrations

from stations import roles


def put_right(apps, schema_editor):
    roles.ensure(apps)


class Migration(migrations.Migration):
    dependencies = [("stations", "0015_power_reservations_certificates")]

    operations = [migrations.RunPython(put_right, migrations.RunPython.noop)]

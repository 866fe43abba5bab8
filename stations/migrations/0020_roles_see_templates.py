"""Who sees the network sees configuration templates; operations may change them."""

from django.db import migrations

from stations import roles


def put_right(apps, schema_editor):
    roles.ensure(apps)


class Migration(migrations.Migration):
    dependencies = [("stations", "0019_more_known_quirks")]

    operations = [migrations.RunPython(put_right, migrations.RunPython.noop)]

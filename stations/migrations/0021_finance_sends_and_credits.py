"""Finance mails documents and issues credit notes: the permissions their views ask for."""

from django.db import migrations

from stations import roles


def put_right(apps, schema_editor):
    roles.ensure(apps)


class Migration(migrations.Migration):
    dependencies = [("stations", "0020_roles_see_templates")]

    operations = [migrations.RunPython(put_right, migrations.RunPython.noop)]

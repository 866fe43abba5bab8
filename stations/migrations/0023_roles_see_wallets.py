"""Roles see driver groups, vouchers, wallets and the provider's statement; finance makes them."""

from django.db import migrations

from stations import roles


def put_right(apps, schema_editor):
    roles.ensure(apps)


class Migration(migrations.Migration):
    dependencies = [("stations", "0022_local_list_orders")]

    operations = [migrations.RunPython(put_right, migrations.RunPython.noop)]

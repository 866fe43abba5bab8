"""PostgreSQL: the frame log in weekly partitions; room on a page for a station's next sign of life."""

from django.db import migrations

from stations.partitions import Table, convert


def forwards(apps, schema_editor):
    if schema_editor.connection.vendor != "postgresql":
        return
    convert(Table("stations_message", weekly=True), "id, at", serial=True)
    schema_editor.execute(
        "CREATE INDEX message_of_station ON stations_message (station_id, at DESC)"
    )
    schema_editor.execute("ALTER TABLE stations_station SET (fillfactor = 70)")


class Migration(migrations.Migration):
    dependencies = [("stations", "0001_initial")]
    operations = [migrations.RunPython(forwards, migrations.RunPython.noop)]

"""PostgreSQL: readings in monthly partitions; room on a page for a session's next reading."""

from django.db import migrations

from stations.partitions import Table, convert


def forwards(apps, schema_editor):
    if schema_editor.connection.vendor != "postgresql":
        return
    convert(Table("monitoring_reading"), "session_id, at, n")
    schema_editor.execute(
        "ALTER TABLE monitoring_session SET (fillfactor = 70,"
        " autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05)"
    )


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0006_lean_indexes")]
    operations = [migrations.RunPython(forwards, migrations.RunPython.noop)]

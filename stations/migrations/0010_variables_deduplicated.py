"""One row for each variable: rows without an EVSE were never equal to each other."""

from django.db import migrations
from django.db.models import Count

KEY = ("station_id", "component", "component_instance", "evse", "connector", "name", "instance",
       "attribute")  # fmt: skip


def merge(apps, schema_editor):
    """Keep the row reported last, with what is wanted of any of them."""
    Variable = apps.get_model("stations", "Variable")
    several = Variable.objects.order_by().values(*KEY).annotate(n=Count("id")).filter(n__gt=1)
    for group in several:
        rows = Variable.objects.filter(**{
            f"{name}__isnull" if group[name] is None else name: (
                True if group[name] is None else group[name]
            )
            for name in KEY
        })
        kept = sorted(
            rows, key=lambda row: (row.reported_at is not None, row.reported_at or 0, row.pk)
        )
        *others, newest = kept
        wanting = [row for row in kept if row.wanted is not None]
        if newest.wanted is None and wanting:
            newest.wanted, newest.pushed_at = wanting[-1].wanted, wanting[-1].pushed_at
            newest.save(update_fields=["wanted", "pushed_at"])
        Variable.objects.filter(pk__in=[row.pk for row in others]).delete()


class Migration(migrations.Migration):

    dependencies = [("stations", "0009_station_as_a_whole")]

    operations = [migrations.RunPython(merge, migrations.RunPython.noop)]

"""More makes of chargers whose misbehaviour is known, and more that is known of some."""

from django.db import migrations

# name, vendor (a regular expression), model, settings: see stations/quirks.py
KNOWN = (
    ("ABB Terra: profiles at stack level 0 alone", "ABB.*", "Terra.*", {"stack_level": 0}),
    ("AEFA: transaction id left out", "AEFA.*", ".*", {"text_repairs": ["empty_transaction_id"]}),
    (
        "EVBox: no limit of the station, no status after a boot",
        "EV-?Box.*",
        ".*",
        {"max_as_default": True, "trigger_on_boot": ["StatusNotification"]},
    ),
)
# name → settings it had, settings it gets; a profile that somebody changed stays as it is
BETTER = {
    "Grizzl-E: names no subprotocol": (
        {"version": "1.6"},
        {"version": "1.6", "ask_all_keys": True},
    ),
    "Huawei: meterValue is no list": (
        {"repairs": ["lone_meter_value"]},
        {"repairs": ["lone_meter_value"], "lowest_limit": {"A": 6, "W": 1380}},
    ),
    "KEBA: serial number behind the tag": (
        {"repairs": ["long_id_tag"]},
        {"repairs": ["long_id_tag"], "normalise": ["serial_behind_tag"]},
    ),
}


def ship(apps, schema_editor):
    """Add what is not there; a row of the same name is somebody's own and stays."""
    profiles = apps.get_model("stations", "QuirkProfile").objects
    for name, vendor, model, settings in KNOWN:
        defaults = {
            "vendor": vendor, "model_pattern": model, "settings": settings, "built_in": True,
        }  # fmt: skip
        profiles.get_or_create(name=name, defaults=defaults)
    for name, (had, gets) in BETTER.items():
        for row in profiles.filter(name=name, built_in=True):
            if row.settings == had:
                row.settings = gets
                row.save(update_fields=["settings"])


def take_back(apps, schema_editor):
    """Remove the rows of this migration and what it added to others."""
    profiles = apps.get_model("stations", "QuirkProfile").objects
    profiles.filter(built_in=True, name__in=[name for name, *_ in KNOWN]).delete()
    for name, (had, gets) in BETTER.items():
        for row in profiles.filter(name=name, built_in=True):
            if row.settings == gets:
                row.settings = had
                row.save(update_fields=["settings"])


class Migration(migrations.Migration):
    dependencies = [("stations", "0018_local_lists")]

    operations = [migrations.RunPython(ship, take_back)]

"""Makes of chargers whose misbehaviour is known and tolerated by settings alone."""

from django.db import migrations

# name, vendor (a regular expression), settings: see stations/quirks.py
KNOWN = (
    ("Autel: units outside the list", "Autel.*", {"repairs": ["unknown_units"]}),
    ("Charge Amps: units outside the list", "Charge ?Amps.*", {"repairs": ["unknown_units"]}),
    ("FoxESS: speaks 1.6 whatever it offers", "Fox ?ESS.*", {"version": "1.6"}),
    ("Grizzl-E: names no subprotocol", "Grizzl-?E.*|United Chargers.*", {"version": "1.6"}),
    ("Growatt: local time without a zone", "Growatt.*", {"local_time": True}),
    ("Huawei: meterValue is no list", "Huawei.*", {"repairs": ["lone_meter_value"]}),
    ("KEBA: serial number behind the tag", "Keba.*", {"repairs": ["long_id_tag"]}),
    ("Legrand: error codes outside the list", "Legrand.*", {"repairs": ["other_error"]}),
    ("Mennekes: answers after a minute", "Mennekes.*", {"timeout_s": 90}),
    ("OpenEVSE: values as numbers", "Open ?EVSE.*", {"repairs": ["numeric_values"]}),
    ("Wallbox: restarts if ordered before its boot", "Wall ?Box.*", {"hold_s": 60}),
)


def ship(apps, schema_editor):
    """Add what is not there; a row of the same name is somebody's own and stays."""
    profiles = apps.get_model("stations", "QuirkProfile").objects
    for name, vendor, settings in KNOWN:
        profiles.get_or_create(
            name=name, defaults={"vendor": vendor, "settings": settings, "built_in": True}
        )


def take_back(apps, schema_editor):
    """Remove the built-in rows."""
    apps.get_model("stations", "QuirkProfile").objects.filter(built_in=True).delete()


class Migration(migrations.Migration):

    dependencies = [("stations", "0012_quirks_built_in")]

    operations = [migrations.RunPython(ship, take_back)]

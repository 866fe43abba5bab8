"""What staff may do: four groups, as a table. Superusers make people staff and give them a group.

Who may only read sees the network, its sessions and its money; not the people, not the journal of
what staff did, not the health of the servers.

The groups are made by a migration and put right again by `ensure()`; groups of the operator's own
are left alone. Permission rows are made here where a later app's are not there yet, so that the
order of migrations does not matter.
"""

from typing import Any, Final

VIEW: Final = {
    "stations": (
        "site", "station", "evse", "connector", "variable", "quirkprofile", "command",
        "commandbatch", "token", "locallist", "reservation", "certificate", "authority",
        "configurationtemplate",
    ),
    "monitoring": (
        "session", "chargingprofile", "incident", "alert", "silence", "contact", "notice",
        "maintenancewindow", "exclusion",
    ),
    "firmware": ("firmwareimage", "campaign", "updatejob"),
    "billing": (
        "tariff", "tariffassignment", "charge", "payment", "refund", "invoice", "mail",
        "houseaccount", "seller", "drivergroup", "voucher", "wallet", "movement",
    ),
}  # fmt: skip

_NETWORK: Final = tuple(f"{app}.view_{name}" for app, names in VIEW.items() for name in names)
INSIDE: Final = (
    "stations.view_user", "stations.view_entry", "stations.view_health", "stations.view_holding",
)  # fmt: skip
_EVERYTHING: Final = (*_NETWORK, *INSIDE)

ROLES: Final[dict[str, tuple[str, ...]]] = {
    "Read-only": _NETWORK,
    "Support": (
        *_EVERYTHING,
        "stations.operate_station", "stations.view_frames",
        "stations.add_token", "stations.change_token",
        "stations.add_user", "stations.change_user",
        "monitoring.change_session", "monitoring.handle_incident",
    ),
    "Operations": (
        *_EVERYTHING,
        "stations.operate_station", "stations.configure_station", "stations.update_firmware",
        "stations.view_frames",
        "stations.add_site", "stations.change_site", "stations.add_authority",
        "stations.add_station", "stations.change_station", "stations.change_connector",
        "stations.add_quirkprofile", "stations.change_quirkprofile",
        "stations.delete_quirkprofile",
        "stations.add_configurationtemplate", "stations.change_configurationtemplate",
        "stations.delete_configurationtemplate",
        "stations.add_token", "stations.change_token", "stations.delete_token",
        "stations.add_locallist", "stations.change_locallist",
        "monitoring.change_session", "monitoring.handle_incident",
        "monitoring.add_silence", "monitoring.change_silence", "monitoring.delete_silence",
        "monitoring.add_contact", "monitoring.change_contact", "monitoring.delete_contact",
        "monitoring.add_maintenancewindow", "monitoring.change_maintenancewindow",
        "monitoring.delete_maintenancewindow",
        "monitoring.add_exclusion", "monitoring.change_exclusion",
        "monitoring.add_meterkey", "monitoring.change_meterkey",
        "firmware.run_campaign",
        "firmware.add_firmwareimage", "firmware.change_firmwareimage",
        "firmware.add_campaign", "firmware.change_campaign",
    ),
    "Finance": (
        *_EVERYTHING,
        "monitoring.change_session",
        "billing.add_tariff", "billing.change_tariff",
        "billing.add_tariffassignment", "billing.change_tariffassignment",
        "billing.delete_tariffassignment",
        "billing.change_charge", "billing.change_payment", "billing.add_refund",
        "billing.add_invoice", "billing.change_invoice",
        "billing.add_mail", "billing.change_mail",
        "billing.add_houseaccount", "billing.change_houseaccount",
        "billing.add_drivergroup", "billing.change_drivergroup", "billing.delete_drivergroup",
        "billing.add_voucher", "billing.change_voucher", "billing.delete_voucher",
        "billing.add_seller", "billing.change_seller", "billing.add_bankreceipt",
        "billing.add_costcentre", "billing.change_costcentre", "billing.delete_costcentre",
        "billing.add_dunningstep", "billing.change_dunningstep", "billing.delete_dunningstep",
        "stations.add_user", "stations.change_user",
    ),
}  # fmt: skip


def ensure(apps: Any) -> None:
    """Make the groups and give them their permissions. `apps` is a registry of models."""
    group = apps.get_model("auth", "Group")
    for name, labels in ROLES.items():
        row, _ = group.objects.get_or_create(name=name)
        row.permissions.add(*(_permission(apps, label) for label in labels))


def _permission(apps: Any, label: str) -> Any:
    app, codename = label.split(".")
    permission = apps.get_model("auth", "Permission")
    content_type = apps.get_model("contenttypes", "ContentType")
    found = permission.objects.filter(content_type__app_label=app, codename=codename).first()
    if found is not None:
        return found
    model = _OWNERS.get(codename) or codename.partition("_")[2]
    kind, _ = content_type.objects.get_or_create(app_label=app, model=model)
    return permission.objects.create(
        content_type=kind, codename=codename, name=f"Can {codename.replace('_', ' ')}"
    )


# Permissions of their own → the model whose Meta declares them.
_OWNERS: Final = {
    "operate_station": "station",
    "configure_station": "station",
    "update_firmware": "station",
    "view_frames": "station",
    "view_health": "station",
    "handle_incident": "incident",
    "run_campaign": "campaign",
}

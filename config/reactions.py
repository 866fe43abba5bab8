"""Kind of news → the Celery tasks that react to it: the only wiring between apps.

What `urls.py` is to requests, this is to the journal. Tasks get the entry's id, run after commit,
and must be idempotent: a sweep runs again what a crash lost.
"""

REACTIONS: dict[str, list[str]] = {
    "command.finished": [
        "firmware.tasks.on_command_finished",
        "billing.tasks.start_answered",
        "stations.tasks.list_answered",
        "stations.tasks.configuration_answered",
        "stations.tasks.certificate_answered",
        "monitoring.tasks.transaction_told",
    ],
    "firmware.status_reported": ["firmware.tasks.on_status"],
    "invoice.issued": ["billing.tasks.deliver"],
    "payment.canceled": ["billing.tasks.settle_payment"],
    "payment.capture_expired": ["billing.tasks.settle_payment"],
    "payment.captured": ["billing.tasks.settle_payment"],
    "payment.event_received": ["billing.tasks.apply_event"],
    "payment.written_off": ["billing.tasks.settle_payment"],
    "refund.failed": ["billing.tasks.refund_failed"],
    "refund.succeeded": ["billing.tasks.refund_succeeded"],
    "session.authorized": ["billing.tasks.bind_payment"],
    "session.closed": ["billing.tasks.settle"],
    "session.corrected": ["billing.tasks.session_corrected"],
    "session.reviewed": ["billing.tasks.session_reviewed"],
    "session.started": ["billing.tasks.bind_payment", "billing.tasks.open_charge"],
    "session.stopped": ["billing.tasks.close_session"],
    "station.booted": [
        "firmware.tasks.on_boot",
        "stations.tasks.ask_list_version",
        "stations.tasks.booted",
    ],
    "variables.reported": ["stations.tasks.configuration_told"],
}

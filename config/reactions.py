"""Kind of news → the Celery tasks that react to it: the only wiring between apps.

What `urls.py` is to requests, this is to the journal. Tasks get the entry's id, run after commit,
and must be idempotent: a sweep runs again what a crash lost.
"""

REACTIONS: dict[str, list[str]] = {
    "command.finished": ["firmware.tasks.on_command_finished", "billing.tasks.start_answered"],
    "firmware.status_reported": ["firmware.tasks.on_status"],
    "payment.event_received": ["billing.tasks.apply_event"],
    "session.started": ["billing.tasks.bind_payment"],
    "station.booted": ["firmware.tasks.on_boot"],
}

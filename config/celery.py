"""The Celery app and the schedule; nothing else.

Beat only ticks: every task finds its work in rows, is idempotent, and may be missed or doubled.
"""

import os

from celery import Celery
from celery.schedules import crontab

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("csms", task_cls="monitoring.ticks:Timed")
app.set_default()  # threads other than the one that imported this look the app up by default
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

app.conf.beat_schedule = {
    "incident notices": {"task": "monitoring.tasks.send_notices", "schedule": 5.0},
    "alert rules": {"task": "monitoring.tasks.evaluate_rules", "schedule": 10.0},
    "playbooks": {"task": "monitoring.tasks.run_playbooks", "schedule": 5.0},
    "uptime ledger": {"task": "monitoring.tasks.write_ledger", "schedule": 10.0},
    "journal sweep": {"task": "stations.tasks.sweep_journal", "schedule": 5.0},
    "firmware campaigns": {"task": "firmware.tasks.tick", "schedule": 2.0},
    "settlement": {"task": "billing.tasks.sweep", "schedule": 60.0},
    "house accounts": {
        "task": "billing.tasks.invoice_house_accounts",
        "schedule": crontab(hour="3", minute="17"),
    },
    "gaps": {"task": "monitoring.tasks.ask_for_gaps", "schedule": 60.0},
    "local lists": {"task": "stations.tasks.keep_local_lists", "schedule": 30.0},
    "sessions due": {"task": "monitoring.tasks.close_sessions", "schedule": 30.0},
    "power sharing": {"task": "monitoring.tasks.share_power", "schedule": 3.0},
    "charging profiles": {"task": "monitoring.tasks.forget_profiles", "schedule": 300.0},
    "room for readings": {
        "task": "monitoring.tasks.keep_readings",
        "schedule": crontab(hour="1", minute="7"),
    },
    "frames kept": {
        "task": "stations.tasks.keep_frames",
        "schedule": crontab(hour="1", minute="37"),
    },
    "configuration": {"task": "stations.tasks.ask_configuration", "schedule": 10.0},
    "command sweep": {"task": "stations.tasks.sweep_commands", "schedule": 2.0},
    "payments due": {"task": "billing.tasks.reconcile_payments", "schedule": 15.0},
    "payments' caps": {"task": "billing.tasks.watch_caps", "schedule": 10.0},
    "prices on displays": {"task": "billing.tasks.tell_stations", "schedule": 30.0},
    "payments' tokens": {
        "task": "billing.tasks.prune_tokens",
        "schedule": crontab(hour="2", minute="47"),
    },
    "books": {"task": "billing.tasks.check_books", "schedule": crontab(hour="4", minute="7")},
    "reminders": {"task": "billing.tasks.remind", "schedule": crontab(hour="6", minute="23")},
    "payments' books": {"task": "billing.tasks.sweep_payments", "schedule": 3600.0},
}

"""The triggers that keep issued documents and the ledger from change, put up and taken down."""

from importlib import import_module

from django.db import connection

migration = import_module("billing.migrations.0002_documents_cannot_change")


class Editor:
    """What the migration needs of a schema editor."""

    connection = connection

    def execute(self, sql: str, params: object = None) -> None:
        with connection.cursor() as cursor:
            cursor.execute(sql)


def protect() -> None:
    """Put the triggers up, where they are not."""
    migration.protect(None, Editor())


def unprotect() -> None:
    """Take them down."""
    migration.unprotect(None, Editor())

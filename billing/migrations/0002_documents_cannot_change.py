"""Issued documents and ledger rows refuse UPDATE and DELETE; entries must balance (PostgreSQL).

The models refuse it too; the triggers hold against raw SQL, the shell and mistakes of ours.
"""

from django.db import migrations

GUARDED = {
    "billing_invoice": "An issued document cannot be changed or deleted.",
    "billing_entry": "The ledger is append-only.",
    "billing_posting": "The ledger is append-only.",
}

POSTGRESQL = """
CREATE OR REPLACE FUNCTION billing_refuse() RETURNS trigger AS $$
BEGIN
    RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'restrict_violation';
END $$ LANGUAGE plpgsql;

CREATE OR REPLACE FUNCTION billing_balances() RETURNS trigger AS $$
BEGIN
    IF EXISTS (
        SELECT 1 FROM billing_posting p JOIN billing_account a ON a.id = p.account_id
        WHERE p.entry_id = NEW.entry_id GROUP BY a.currency HAVING sum(p.amount_minor) <> 0
    ) THEN
        RAISE EXCEPTION 'The postings of ledger entry % do not sum to zero.', NEW.entry_id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$ LANGUAGE plpgsql;

DROP TRIGGER IF EXISTS billing_posting_balances ON billing_posting;
CREATE CONSTRAINT TRIGGER billing_posting_balances AFTER INSERT ON billing_posting
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION billing_balances();
"""


def protect(apps, schema_editor):
    """Create the triggers."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(POSTGRESQL, params=None)  # its percent signs are text
        for table, words in GUARDED.items():
            schema_editor.execute(
                f"CREATE OR REPLACE TRIGGER {table}_guard BEFORE UPDATE OR DELETE ON {table} "
                f"FOR EACH ROW EXECUTE FUNCTION billing_refuse('{words}')"
            )
        return
    for table, words in GUARDED.items():
        for act in ("UPDATE", "DELETE"):
            schema_editor.execute(
                f"CREATE TRIGGER IF NOT EXISTS {table}_no_{act.lower()} BEFORE {act} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{words}'); END"
            )


def unprotect(apps, schema_editor):
    """Drop the triggers."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP TRIGGER IF EXISTS billing_posting_balances ON billing_posting")
        for table in GUARDED:
            schema_editor.execute(f"DROP TRIGGER IF EXISTS {table}_guard ON {table}")
        return
    for table in GUARDED:
        for act in ("update", "delete"):
            schema_editor.execute(f"DROP TRIGGER IF EXISTS {table}_no_{act}")


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_initial")]
    operations = [migrations.RunPython(protect, unprotect)]

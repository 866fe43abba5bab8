"""From a session to money: tariffs, charges, payments, invoices and the ledger."""

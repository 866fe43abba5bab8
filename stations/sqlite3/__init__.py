"""Django's SQLite with one change: the transactions of a process take turns."""

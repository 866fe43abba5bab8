"""The driver's portal: map, pay and charge, live session, receipt, account."""

"""Whole stories, each run in OCPP 1.6, 2.0.1 and 2.1 with the same expectations to the cent."""

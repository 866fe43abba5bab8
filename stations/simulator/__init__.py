"""A simulated charge point: OCPP 1.6, 2.0.1 and 2.1 as a websocket client.

It knows nothing of the server it talks to and imports nothing of it, so that it can be pointed at
any CSMS.
`station.Station` is the charge point, `v16` and `v2` are its dialects, `scenarios` its daily lives,
`fleet` runs many. `manage.py simulate` is the way in.
"""

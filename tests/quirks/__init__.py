"""Misbehaviour of real chargers, one file a make, played from the frame to the bill.

A file holds what the charger says it is (`vendor`, `model`, `version`, and `offers`, the
subprotocol where it is another), what it does (`steps`) and what must come of it: the session, its
bill in cents, what its quirk profile tolerated. A step is one of

    {"call": action, "payload": {…}, "answer": {…}}   answer: a part of ours, or an error's code
    {"text": raw, "answer": {…}}                      the same with a frame as the charger wrote it
    {"order": name, "args": {…}, "takes": action, "payload": {…}, "answer": {…}}
    {"takes": action, "payload": {…}, "answer": {…}}  a call of ours that comes by itself
    {"again": true}                                   the socket is closed; it connects again

`@30` is the moment 30 minutes after the session began, `$tx` the transaction id we gave.
"""

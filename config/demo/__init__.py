"""A small living network to look at: places and people, a past month, and stations that charge.

`places` is the cast, `seed` puts it into the database once, `history` plays its past through the
product's own code, `network` runs the twelve stations over real websockets.
"""

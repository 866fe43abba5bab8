"""Parts of the protocol that dialects share, one functional block a file.

A block is a mix-in on Dialect: its handlers (`@on`) and the methods of its orders. What a version
adds to a block is a subclass; what each version speaks is in its class's bases.
"""

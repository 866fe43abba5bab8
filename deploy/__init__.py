"""Running the product: on this machine, in containers, under systemd, behind nginx."""

"""Load, storm and chaos: scripts that measure the product and fill docs/performance.md."""

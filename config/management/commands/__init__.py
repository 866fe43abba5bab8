"""Commands that run the whole product."""

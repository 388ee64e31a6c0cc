"""Danish homes by municipality, from Boligsiden's API, in a local SQLite file."""

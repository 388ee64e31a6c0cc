"""One folder a source: tables, assets, checks, automation and command in each, and what fetches, which differs.

`assembly.py` and `effort.py` are what the sources share. How each fetches, and why not all alike, the README's architecture says.
"""

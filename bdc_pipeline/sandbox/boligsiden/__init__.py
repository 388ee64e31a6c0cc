"""Boligsiden's API from generated homes.

`places.py` says which municipalities, zip codes and roads there are, `generate.py` which homes, `record.py` what is sent of one,
`search.py` answers lists, `changes.py` changes homes, `api.py` is the HTTP side.
"""

from bdc_pipeline.sandbox.boligsiden.api import BoligsidenSource

__all__ = ["BoligsidenSource"]

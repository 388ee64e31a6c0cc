"""BrandMeister, TGIF and hearham: registries of amateur radio, each of which serves its whole list as one JSON document.

`generate.py` makes the data, also for whoever needs no server, from the words in `words.py` and the types in `records.py`;
`changes.py` changes records, `documents.py` holds what is on the wire, `api.py` is the HTTP side.
"""

from bdc_pipeline.sandbox.dmr.api import BrandMeister, Hearham, Tgif, sources
from bdc_pipeline.sandbox.dmr.generate import Registries, registries

__all__ = ["BrandMeister", "Hearham", "Registries", "Tgif", "registries", "sources"]

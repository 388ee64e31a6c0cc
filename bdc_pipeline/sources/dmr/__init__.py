"""The DMR registries: repeaters and talkgroups of digital amateur radio, from BrandMeister, TGIF and hearham.

| module | what belongs there |
|---|---|
| `registries.py` | which documents there are, where, and how often they may be asked for |
| `cache.py` | the raw downloads on disk, each with a record of where it came from |
| `warm.py` | bringing them up to date |
| `tables.py`, `views.py` | what is kept |
| `reading.py` | from a raw record to a row |
| `loading.py` | from the raw downloads to the tables, in one of three modes |
| `near.py` | repeaters around a point |
| `assets.py`, `command.py` | Dagster and the command line |
"""

"""What `benchmarks/load.py` is made of: the data, the contestants, one measured process of each, the report.

`data_set.py`, `child.py`, `with_sqlite_utils.py` and `with_dlt.py` run in the peers' own environment too, so they import nothing of
the project's.
"""

"""The commands of `bdc-pipeline` that are about one source: one module a source, and what they share.

These modules declare options and say what is wrong with them. Dagster, pandas and the sources are imported inside the
functions that need them, so that `--help` and a wrong option answer at once.
"""

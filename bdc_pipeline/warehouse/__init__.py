"""Keeping rows in SQLite: declared tables, bulk upserts, a ledger. Imports Dagster in io_manager.py alone."""

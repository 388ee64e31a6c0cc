"""Talking to slow APIs: sessions, pacing and a bounded pool of threads. Imports neither Dagster nor SQLite."""

"""Keeping the copies fresh, whole and watched: what the sources share in Dagster. Imports no source; sources hand it facts."""

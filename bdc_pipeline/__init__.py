"""Complete, fresh, fast SQLite copies of slow APIs, kept by Dagster."""

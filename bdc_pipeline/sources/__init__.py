"""One folder a source, all alike: client, tables, assets."""

"""Step 3: writes whole shards."""

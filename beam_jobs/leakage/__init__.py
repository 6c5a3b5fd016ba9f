"""Step 4: finds near-duplicates across splits."""

"""Step 5: accounts for every input, and publishes."""

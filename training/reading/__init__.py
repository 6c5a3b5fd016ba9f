"""A data set -> batches: opens the manifest, checks and reads the shards, shuffles, and feeds the device."""

"""Files on a local disk and in a bucket."""

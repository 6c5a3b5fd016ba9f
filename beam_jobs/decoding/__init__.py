"""The decoders of a worker process."""

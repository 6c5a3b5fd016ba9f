"""The decoders that a worker process has."""

"""The settings of TensorFlow's gs:// client, which it reads once: when TensorFlow is imported."""

import os

# A read asks for a whole block, and each open file holds one. Shards are below 128 MiB (beam_jobs/plan/plan.py), so one is
# one request.
BLOCK_MB = 128
SETTINGS = {
    "GCS_READ_CACHE_BLOCK_SIZE_MB": BLOCK_MB,
    # files.py waits and asks again. The waits of this client have up to a second of jitter each, and every shard of a window
    # waits for the slowest.
    "GCS_RETRY_CONFIG_INIT_DELAY_TIME_US": 0,
    "GCS_RETRY_CONFIG_MAX_RETRIES": 2,
}


def configure() -> None:
    """Sets what the user has not set. Call it before TensorFlow is imported; later it has no effect."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, str(value))

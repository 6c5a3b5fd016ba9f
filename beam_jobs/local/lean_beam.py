"""Loads Beam for a job on this machine, without the clients of services that such a job never calls.

Beam looks for every client that is installed, above all for Google's, and loads what it finds: half of the second that
its import takes. A local job reaches buckets and Secret Manager by itself (bucket.py, id_key.py), never through Beam.
"""

import gc
import logging
import sys

_CLIENTS = ("apitools", "google.auth", "google.cloud", "pymongo", "requests")
_SAMPLING_MILLISECONDS = 5


def load_beam() -> None:
    """Imports Beam as if these clients were not installed. They can be imported afterwards; Beam's own modules for
    them stay without them in this process, so a job on a remote runner must not use this."""
    hidden = [name for name in _CLIENTS if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type] # None: Python then says that there is no such module
    logging.disable(logging.WARNING)  # two of Beam's modules warn of what they lack
    gc.disable()  # a thousand modules, none of them garbage
    try:
        from apache_beam.runners.worker.statesampler import StateSampler
    finally:
        gc.enable()
        logging.disable(logging.NOTSET)
        for name in hidden:
            del sys.modules[name]
    # At the end of a bundle Beam waits for the thread that samples which step is at work: a fifth of a second unless told to
    # look more often, and it has no option for that.
    StateSampler.__init__.__defaults__ = (_SAMPLING_MILLISECONDS,)

"""Imports Beam for a local job or a worker, without the clients of services that it never calls, and bounds what memory
allocation wastes.

Beam imports every client that is installed, mainly Google's, which takes half of the second that importing Beam takes.
A local job accesses buckets and Secret Manager itself (bucket.py, id_key.py), never through Beam.
"""

import ctypes
import functools
import gc
import logging
import sys

_CLIENTS = ("apitools", "bson", "google.auth", "google.cloud", "pymongo", "regex", "requests")
_SAMPLING_MILLISECONDS = 5
_M_ARENA_MAX, _ARENAS = -8, 2  # an option of glibc's mallopt


def load_beam() -> None:
    """Imports Beam as if these clients were not installed. They can still be imported afterwards, but Beam's own modules
    lack them in this process, so a job on a remote runner must not use this."""
    _bound_arenas()
    hidden = [name for name in _CLIENTS if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type] # with None, Python says that there is no such module
    logging.disable(logging.WARNING)  # two of Beam's modules warn about missing clients
    gc.disable()  # a thousand modules, none of them garbage
    try:
        from apache_beam.runners.worker.statesampler import StateSampler
        from apache_beam.transforms import userstate
    finally:
        gc.freeze()  # later collections do not look at them either
        gc.enable()
        logging.disable(logging.NOTSET)
        for name in hidden:
            del sys.modules[name]
    # At the end of a bundle, Beam waits for the thread that samples which step is active. That takes a fifth of a
    # second unless the thread looks more often, and Beam has no option for that.
    StateSampler.__init__.__defaults__ = (_SAMPLING_MILLISECONDS,)
    # Beam inspects all methods of each DoFn, again and again, to find its state and timers. That takes an eighth of a
    # second.
    userstate.get_dofn_specs = functools.cache(userstate.get_dofn_specs)


def _bound_arenas() -> None:
    # glibc gives each of the first 8 threads a core a heap of its own. Every shard has new threads, and what they leave
    # free lies scattered over all of these heaps: 65 MiB after 100,000 images, and more with every shard.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt:
        mallopt(_M_ARENA_MAX, _ARENAS)

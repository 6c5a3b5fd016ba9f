"""Ends a worker process together with the process that started it."""

import os
import threading
import time

_POLL_SECONDS = 0.2


def end_with_parent(parent: int = 0) -> None:
    """From now on, this process ends as soon as its parent does (process `parent`, by default whichever it is now).
    Beam's worker would wait forever for a parent that is gone."""
    # Not PR_SET_PDEATHSIG: Linux sends it when the thread that started this process ends, which a Java engine outlives.
    threading.Thread(target=_watch, args=(parent or os.getppid(),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os._exit(1)

"""A worker process on this machine (--direct_running_mode=multi_processing) that ends with the launcher.

`python -m beam_jobs.local.workers LAUNCHER_PID FOLDER_OF_BLOCKS`; only Beam's local runner starts it.
"""

import os
import sys
import threading
import time

_POLL_SECONDS = 0.2


def _end_with_launcher(launcher: int) -> None:
    """Beam's worker would wait forever for a launcher that is gone."""
    while os.getppid() == launcher:
        time.sleep(_POLL_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_launcher, args=(int(sys.argv[1]),), daemon=True).start()
    from beam_jobs.local.lean_beam import load_beam

    load_beam()
    from apache_beam.runners.worker import sdk_worker_main

    from beam_jobs.passing.blocks import kept_in

    with kept_in(sys.argv[2]):
        sdk_worker_main.main(sys.argv)

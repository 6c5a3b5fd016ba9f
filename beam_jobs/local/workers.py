"""A worker process on this machine (--direct_running_mode=multi_processing) that ends with the launcher.

`python -m beam_jobs.local.workers LAUNCHER_PID FOLDER_OF_BLOCKS`; only Beam's local runner starts it.
"""

import sys

from beam_jobs.local.lifeline import end_with_parent

if __name__ == "__main__":
    end_with_parent(int(sys.argv[1]))
    from beam_jobs.local.lean_beam import load_beam

    load_beam()
    from apache_beam.runners.worker import sdk_worker_main

    from beam_jobs.passing.blocks import kept_in

    with kept_in(sys.argv[2]):
        sdk_worker_main.main(sys.argv)

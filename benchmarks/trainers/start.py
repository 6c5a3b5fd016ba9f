"""A process of benchmarks.training: training.train until its first step is done. Prints the seconds since the process began.

`python -m benchmarks.trainers.start START DATA OUTPUT`, where START is time.monotonic() before the process was started.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from benchmarks.trainers.figures import COMPILE, FIRST_BATCH, IMPORTS, MANIFEST


def main() -> None:
    started, data, output = float(sys.argv[1]), *sys.argv[2:]
    from training import train  # as the command does: this loads neither Keras nor its backend
    from training.loading import quiet_loading

    with quiet_loading():
        import training.fitting.fit  # noqa: F401 - the command imports it within its quiet_loading()
        from training.devices.feeds import make_feed
        from training.devices.steps import ExactSteps
        from training.fitting import epochs
    stamps = {IMPORTS: time.monotonic() - started}

    def stamped_feed(*arguments: Any, **options: Any) -> Any:
        begun = time.monotonic()
        stamps.setdefault(MANIFEST, begun - started - stamps[IMPORTS])
        feed = make_feed(*arguments, **options)  # reads a split that is kept in memory
        stamps[FIRST_BATCH] = stamps.get(FIRST_BATCH, 0.0) + time.monotonic() - begun
        return feed

    class FirstStep(ExactSteps):
        """Ends the process after the first step, without the rest of the run."""

        def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:  # noqa: ARG002
            total = time.monotonic() - started
            stamps[FIRST_BATCH] += self._feed.waiting.seconds
            stamps[COMPILE] = total - sum(stamps.values())
            print(json.dumps({"seconds": total, "parts": stamps}), flush=True)
            os._exit(0)

    vars(epochs).update(ExactSteps=FirstStep, make_feed=stamped_feed)
    train.main(["--data", data, "--output", output, "--recipe", "model3", "--epochs", "1"])


if __name__ == "__main__":
    main()

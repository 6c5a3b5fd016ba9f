"""A folder in a bucket -> a local folder: `python -m beam_jobs.download gs://BUCKET/FOLDER DIR`."""

import sys
from collections.abc import Sequence

from beam_jobs.transfer.settings import ending_at_once, parse_download
from schemas.errors import ending_when_interrupted, run_command


def main(argv: Sequence[str]) -> None:
    """Downloads what is not there yet, and verifies all. Raises JobFailed if an object could not be downloaded."""
    config = parse_download(argv)
    with ending_when_interrupted():
        from beam_jobs.transfer.downloading import download
    with ending_at_once():
        download(config)


if __name__ == "__main__":
    sys.exit(run_command(main))

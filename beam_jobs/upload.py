"""A local folder -> a folder in a bucket: `python -m beam_jobs.upload DIR gs://BUCKET/FOLDER`."""

import sys
from collections.abc import Sequence

from beam_jobs.transfer.settings import ending_at_once, parse_upload
from schemas.errors import ending_when_interrupted, run_command


def main(argv: Sequence[str]) -> None:
    """Uploads what is not there yet, and verifies all. Raises JobFailed if a file could not be uploaded."""
    config = parse_upload(argv)
    with ending_when_interrupted():
        from beam_jobs.transfer.uploading import upload
    with ending_at_once():
        upload(config)


if __name__ == "__main__":
    sys.exit(run_command(main))

"""How a test gets the stand-in decoder of standin/sitecustomize.py, and the words that it reacts to."""

import os
from pathlib import Path

EXIT, SEGFAULT, HANG = b"CALL-OS-EXIT", b"SEGMENTATION-FAULT", b"SLEEP-FOR-EVER"
SWELL, GARBAGE = b"TAKE-ALL-MEMORY", b"ANSWER-WITH-GARBAGE"
DRIP, CHATTER, COLOUR = b"ANSWER-BIT-BY-BIT", b"ANSWER-TO-THE-NEXT", b"ANSWER-IN-RED"


def stand_in_path() -> str:
    """The PYTHONPATH of processes with the stand-in decoder."""
    here = Path(__file__).parent
    return os.pathsep.join((str(here / "standin"), str(here.parent.parent)))

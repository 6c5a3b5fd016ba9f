"""How a test gets the stand-in decoder of standin/sitecustomize.py, and the words that it reacts to."""

import os
from pathlib import Path

EXIT, SEGFAULT, HANG = b"CALL-OS-EXIT", b"SEGMENTATION-FAULT", b"SLEEP-FOR-EVER"
SWELL, GARBAGE = b"TAKE-ALL-MEMORY", b"ANSWER-WITH-GARBAGE"
DRIP, CHATTER, COLOUR = b"ANSWER-BIT-BY-BIT", b"ANSWER-TO-THE-NEXT", b"ANSWER-IN-RED"
TOLD, HANGS = "told-", "hangs"


def stand_in_path(told: Path | None = None) -> str:
    """The PYTHONPATH of processes with the stand-in decoder. If it includes `told`, a folder whose name starts with TOLD,
    the decoder leaves a file HANGS there when it begins to hang."""
    here = Path(__file__).parent
    return os.pathsep.join(map(str, (here / "standin", here.parent.parent, *([told] if told else []))))

"""Loads Keras and its backend without their libraries' start-up log lines, which say nothing about the command."""

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from schemas.errors import CommandParser, ending_when_interrupted
from training.models.recipes import own_recipe
from training.reading.buckets.tensorflow_settings import configure

LEVEL = "TF_CPP_MIN_LOG_LEVEL"
BACKEND = "KERAS_BACKEND"
ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
_STDERR = 2  # the descriptor: they write to it, past sys.stderr and whatever their level


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """Hides what the body of the `with` writes to stderr, unless it raises, or --debug or the user's TF_CPP_MIN_LOG_LEVEL
    (0 or 1) asks for it. An interrupt ends the process with one line. Where TensorFlow is not installed and JAX is, Keras
    uses JAX, unless the user's KERAS_BACKEND says something else. TensorFlow finds the settings of its gs:// client."""
    configure()
    # TensorFlow's default on newer processors. Without AVX-512, `best` trains 1.5 times as fast with it.
    os.environ.setdefault(ONEDNN, "1")
    if BACKEND not in os.environ and find_spec("tensorflow") is None and find_spec("jax") is not None:
        os.environ[BACKEND] = "jax"
    if os.environ.get(LEVEL) in ("0", "1"):
        with ending_when_interrupted():
            yield
        return
    logging.getLogger("tensorflow").addFilter(_says_something)
    sys.stderr.flush()
    terminal = os.dup(_STDERR)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), _STDERR)
        try:
            with ending_when_interrupted(terminal):
                yield
        except BaseException:
            kept.seek(0)
            os.write(terminal, kept.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(terminal, _STDERR)
            os.close(terminal)


def _says_something(record: logging.LogRecord) -> bool:
    """Whether a log line is not the advice against several models in one process, each of which is traced once."""
    return "triggered tf.function retracing" not in str(record.msg)


def flags_of(parser: CommandParser, argv: Sequence[str]) -> dict[str, Any]:
    """The flags in `argv` by name, without `--debug`, which is seen to here. The parser gets `--recipe`, for the user's own
    recipe, which is loaded. Raises UsageError for a wrong flag or recipe."""
    parser.add_argument("--recipe", metavar="FILE", help="your own recipe, if the run was made with one")
    flags = vars(parser.parse_args(argv))
    if flags.pop("debug"):
        os.environ[LEVEL] = "0"
    with quiet_loading():  # it may import Keras
        flags["recipe"] = own_recipe(flags["recipe"])
    return flags

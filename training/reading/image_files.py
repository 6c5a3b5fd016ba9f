"""Image files that a user names: which there are, and their bytes."""

import sys
from collections.abc import Iterator, Sequence

from schemas.decoders.pool import DEFAULT_MEMORY, most_bytes
from schemas.decoders.process import Answer
from schemas.pixels.rejection import ImageRejected
from training.reading import files


def image_files(images: Sequence[str]) -> Iterator[str]:
    """Each file of `images`, which are files or folders, local or gs://; of a folder, all that are not hidden."""
    for image in images:
        if not files.is_folder(image):
            yield image
            continue
        for folder, names in files.walk(image):
            yield from (f"{folder.rstrip('/')}/{name}" for name in names if not name.startswith("."))


def read_image_file(path: str) -> bytes | str:
    """The bytes of a file, or a message that says why it cannot be read."""
    most = most_bytes(DEFAULT_MEMORY)
    try:
        if (size := files.size(path)) > most:
            return f"rejected, file_too_large: {size >> 20} MiB, but a decoder takes at most {most >> 20}"
        return files.read(path)
    except FileNotFoundError:
        return "no such file"
    except OSError as error:
        return f"cannot be read: {files.message(error)}"


def complain(path: str, answer: Answer | str) -> None:
    """Says on stderr why an image is not used."""
    what = "rejected, " if isinstance(answer, ImageRejected) else "not an image: "
    print(f"{path}: {answer if isinstance(answer, str) else f'{what}{answer}'}", file=sys.stderr)

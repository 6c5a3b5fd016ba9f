"""How near is the whole conversion to the bare work? `python -m benchmarks.conversion [--images DIR]`

Peer: a plain loop over two processes that reads, decodes and appends records to one file each, with no plan, no checksums,
no splits and no Beam. Both convert the same folder in turn; the median of the pairwise ratios is what to quote.
"""

import argparse
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from schemas.example import Example, encode_example, frame_record
from schemas.image import ImageRejected, ImageSettings, decode

_PSEUDONYM = "0" * 32


def main() -> None:
    """Prints seconds of each run and the ratio, and writes them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="folder of LABEL/FILE images; sample images without it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/conversion.json"))
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        images = flags.images or _sample(Path(folder) / "sample")
        files = sorted(path for path in images.rglob("*") if path.is_file() and path.suffix != ".txt")
        _read_all(files)  # both sides then read from the page cache
        rounds = []
        for number in range(flags.rounds):
            ours = _timed(_convert, images, Path(folder) / f"out{number}")
            bare = _timed(_bare_loop, files, Path(folder) / f"bare{number}")
            rounds.append({"ours_s": ours, "bare_s": bare, "ratio": ours / bare})
            print(f"round {number + 1}: ours {ours:.2f} s, bare loop {bare:.2f} s, ratio {ours / bare:.2f}")
    ratio = statistics.median(entry["ratio"] for entry in rounds)
    print(f"{len(files)} images: whole conversion / bare two-process loop = {ratio:.2f} (median of {flags.rounds})")
    flags.json.write_text(json.dumps({"images": len(files), "rounds": rounds, "median_ratio": ratio}, indent=1) + "\n")


def _sample(folder: Path) -> Path:
    subprocess.run([sys.executable, "-m", "beam_jobs.sample", "--output", folder, "--images", "600"], check=True)
    return folder


def _read_all(files: list[Path]) -> None:
    for file in files:
        file.read_bytes()


def _timed(function, *arguments) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def _convert(images: Path, output: Path) -> None:
    command = [sys.executable, "-m", "beam_jobs.convert", "--input", images, "--output", output]
    done = subprocess.run([*command, "--max_reject_fraction", "1"], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)


def _bare_loop(files: list[Path], output: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.starmap(_bare_part, [(files[part::2], output.with_suffix(f".{part}")) for part in range(2)])


def _bare_part(files: list[Path], output: Path) -> None:
    settings = ImageSettings()
    with output.open("wb") as shard:
        for file in files:
            try:
                pixels = decode(file.read_bytes(), settings).pixels
            except ImageRejected:
                continue
            shard.write(frame_record(encode_example(Example(pixels, 0, _PSEUDONYM, _PSEUDONYM))))


if __name__ == "__main__":
    main()

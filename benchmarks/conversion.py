"""How does the whole conversion compare with the bare work and with other ways? `python -m benchmarks.conversion --help`

In each round all ways convert the same folder, one after the other, and each is timed as a whole process, including its
start. The figure to quote is the median of the ratios within a round. The bare loop is the limit: two processes that read,
decode and append records to a file each, without a plan, checksums, splits or Beam. The peers (conversion_peers.py) are
what people write instead.
"""

import argparse
import json
import multiprocessing
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from schemas.example import Example, encode_example, frame_record
from schemas.pixels.decode import decode
from schemas.pixels.rejection import ImageRejected
from schemas.pixels.settings import ImageSettings

_PSEUDONYM = "0" * 32
_PEERS = Path(__file__).with_name("conversion_peers.py")
_PEER_PACKAGES = ["apache-beam>=2.77,<3", "pillow", "tensorflow-cpu>=2.21,<2.22", "tensorflow-datasets>=4.9.9"]

Way = Callable[[Path], None]  # converts into this output


def main() -> None:
    """Prints wall and CPU seconds of each way and its ratio to ours, and writes them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--images",
        action="append",
        metavar="DIR[:COPIES]",
        help="folder of LABEL/FILE images, with COPIES copies of each JPEG; may be repeated",
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--peers", type=Path, metavar="VENV", help="also time the peers, in this environment; created if absent"
    )
    parser.add_argument("--json", type=Path, default=Path("benchmarks/conversion.json"))
    flags = parser.parse_args()
    if flags.peers and not flags.peers.exists():
        _make_environment(flags.peers)
    with tempfile.TemporaryDirectory() as folder:
        few = _few(Path(folder) / "few")
        folders = {"start-up (20 images of 64x64)": few}
        for images in flags.images or [_sample(Path(folder) / "sample", 600)]:
            folders[str(images)] = _copied(str(images), Path(folder) / "copies")
        result = {
            name: _compare(name, images, Path(folder), flags.rounds, None if images is few else flags.peers)
            for name, images in folders.items()
        }
    flags.json.write_text(json.dumps(result, indent=1) + "\n")


def _compare(name: str, images: Path, folder: Path, rounds: int, peers: Path | None) -> dict[str, Any]:
    files = sorted(path for path in images.rglob("*") if path.is_file() and path.suffix != ".txt")
    for file in files:
        file.read_bytes()  # so that every way reads from the page cache
    ways: dict[str, Way] = {"ours": partial(_convert, images), "bare loop": partial(_bare_loop, files)}
    if peers:
        for peer in ("pillow", "tfds"):
            ways[peer] = partial(_run, peers / "bin" / "python", _PEERS, peer, images)
    measured: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, function in ways.items():
            output = folder / "output"
            measured[way].append(_timed(function, output))
            for left in folder.glob("output*"):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
    print(f"{name}: {len(files)} files, medians of {rounds}")
    table = {}
    for way, runs in measured.items():
        wall, cpu = (statistics.median(column) for column in zip(*runs, strict=True))
        ratio = statistics.median(run[0] / ours[0] for run, ours in zip(runs, measured["ours"], strict=True))
        table[way] = {"wall_s": round(wall, 2), "cpu_s": round(cpu, 2), "wall_to_ours": round(ratio, 3), "runs": runs}
        print(f"  {way:10} wall {wall:6.2f} s  CPU {cpu:6.2f} s  wall / ours {ratio:.2f}")
    return {"files": len(files), "ways": table}


def _timed(function: Way, output: Path) -> tuple[float, float]:
    """Wall seconds, and CPU seconds of all processes that `function` started."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    function(output)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)


def _make_environment(venv: Path) -> None:
    print(f"Installing the peers into {venv} (once, a few minutes) ...")
    _run(sys.executable, "-m", "venv", venv)
    _run(venv / "bin" / "python", "-m", "pip", "install", "--quiet", *_PEER_PACKAGES)


def _sample(folder: Path, images: int) -> Path:
    _run(sys.executable, "-m", "beam_jobs.sample", "--output", folder, "--images", str(images))
    return folder


def _few(folder: Path) -> Path:
    """Writes so few and so small images that nearly all of the time is start-up."""
    for number in range(20):
        file = folder / "AB"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (64, 64), np.uint8)).save(file)
    return folder


def _copied(images: str, folder: Path) -> Path:
    """The folder of `images`. For DIR:COPIES, a folder of copies that are not byte-identical, because each has a different
    comment (segment FF FE)."""
    place, _, copies = images.rpartition(":")
    if not place:
        return Path(images)
    for file in sorted(Path(place).rglob("*.jp*g")):
        data = file.read_bytes()
        for number in range(int(copies)):
            comment = f"{number:08d}".encode()
            copy = folder / file.relative_to(place).with_name(f"copy{number}-{file.name}")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(data[:2] + b"\xff\xfe\x00" + bytes([len(comment) + 2]) + comment + data[2:])
    return folder


def _convert(images: Path, output: Path) -> None:
    command = (sys.executable, "-m", "beam_jobs.convert", "--input", images, "--output", output / "1.0.0")
    _run(*command, "--max_reject_fraction", "1")


def _bare_loop(files: list[Path], output: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.starmap(_bare_part, [(files[part::2], output.with_suffix(f".{part}")) for part in range(2)])
        pool.close()
        pool.join()


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

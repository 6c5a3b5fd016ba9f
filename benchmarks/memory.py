"""Does a conversion's memory grow with the number of images? `python -m benchmarks.memory [--images 10000 100000]`

Converts folders of that many different small images, with the work in one process (the default) and with worker processes.
Prints the peak resident memory of the launcher and of its largest worker, and the memory that each image beyond those of
the first folder costs. Linux only: it reads /proc.
"""

import argparse
import contextlib
import json
import os
import resource
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

_SIDE = 16
MODES = {
    "in process": (),
    "two workers": ("--direct_running_mode=multi_processing", "--direct_num_workers=2"),
}


def main() -> None:
    """Prints a table and writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/memory.json"))
    flags = parser.parse_args()
    results = []
    print(
        f"{'mode':<12} {'images':>9} {'launcher MiB':>13} {'worker MiB':>11} {'bytes/extra image':>17} {'seconds':>8}"
    )
    for mode in flags.modes:
        first = None
        for count in flags.images:
            row = measured(count, MODES[mode])
            first = first or row
            more = (row["peak_bytes"] - first["peak_bytes"]) / max(1, count - first["images"])
            results.append({"mode": mode, **row, "bytes_per_further_image": round(more)})
            print(
                f"{mode:<12} {count:>9,} {row['launcher_bytes'] / 2**20:>13.0f} {row['worker_bytes'] / 2**20:>11.0f} "
                f"{more:>17,.0f} {row['seconds']:>8.1f}",
                flush=True,
            )
    flags.json.write_text(json.dumps(results, indent=1) + "\n")


def measured(count: int, arguments: tuple[str, ...] = (), module: str = "beam_jobs.convert") -> dict[str, float]:
    """Converts `count` new images, or scores them with `module`. Gives {images, launcher_bytes, worker_bytes, peak_bytes (of
    all processes), waiting_bytes (of the files that hold what waits between the steps), seconds, cpu_seconds}."""
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder) / "raw", count)
        temporary = Path(folder) / "temporary"
        temporary.mkdir()
        command = [sys.executable, "-m", module, "--input", f"{folder}/raw", "--output", f"{folder}/out"]
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        with open(Path(folder) / "log", "wb") as log:
            environment = {**os.environ, "TMPDIR": str(temporary)}
            launcher = subprocess.Popen([*command, *arguments], stdout=log, stderr=log, env=environment)
            peaks: dict[int, int] = {}
            waiting = 0
            while launcher.poll() is None:
                waiting = max(waiting, blocks_bytes(temporary))
                for process in family(launcher.pid):
                    peaks[process] = max(peaks.get(process, 0), peak_bytes(process))
                time.sleep(0.05)
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        if launcher.returncode:
            sys.exit((Path(folder) / "log").read_text())
        manifest = json.loads((Path(folder) / "out/manifest.json").read_text())
        assert manifest["inputs"]["written"] == count, manifest["inputs"]
    own = peaks.pop(launcher.pid)
    worker = max(peaks.values(), default=0)
    return {
        "images": count,
        "launcher_bytes": own,
        "worker_bytes": worker,
        "peak_bytes": own + sum(peaks.values()),
        "waiting_bytes": waiting,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2),
    }


def write_images(folder: Path, count: int) -> None:
    """Writes `count` different PNGs of 16x16 random pixels, in two classes and a thousand per folder."""
    for number in range(count):
        parent = folder / "train" / ("NORMAL", "PNEUMONIA")[number % 2] / f"{number // 2000:05d}"
        if number % 2000 < 2:
            parent.mkdir(parents=True)
        (parent / f"{number:08d}.png").write_bytes(png(os.urandom(_SIDE * _SIDE)))


def png(pixels: bytes) -> bytes:
    """The bytes of a square 8-bit gray PNG (PNG specification, third edition, section 5), written without a library,
    which would take most of this benchmark's time."""
    rows = b"".join(b"\0" + pixels[at : at + _SIDE] for at in range(0, len(pixels), _SIDE))
    header = struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 0)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def blocks_bytes(folder: Path) -> int:
    """The size of all files of blocks (beam_jobs/passing/blocks.py) below `folder`. The job may delete them meanwhile."""
    total = 0
    for place, _, files in os.walk(folder):  # leaves out folders that are gone
        for name in files:
            if name.startswith("blocks-"):
                with contextlib.suppress(FileNotFoundError):
                    total += os.stat(os.path.join(place, name)).st_size
    return total


def family(process: int) -> list[int]:
    """`process` and all of its descendants."""
    found = [process]
    for parent in found:
        for tasks in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, tasks.read_text().split())
            except OSError:  # the process has just ended
                continue
    return found


def peak_bytes(process: int) -> int:
    """The peak resident memory of `process` so far; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:")), 0)


if __name__ == "__main__":
    main()

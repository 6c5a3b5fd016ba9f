"""What the tests of engines download once, from Maven Central, PyPI and the Go module proxy, and keep.

It is kept in ~/.cache/radrecords-tests (XDG_CACHE_HOME), in folders that are named by what they hold.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import apache_beam
import pytest

POM = Path(__file__).with_name("pom.xml")
FLINK_VERSION = "1.19.3"
PRISM = "github.com/apache/beam/sdks/v2/go/cmd/prism"
# What Flink's own scripts open to Flink, which the manifest of a jar can open too.
OPENED = "java.base/" + " java.base/".join(
    "java.io java.lang java.lang.invoke java.lang.reflect java.net java.nio java.text java.time java.util "
    "java.util.concurrent java.util.concurrent.atomic java.util.concurrent.locks sun.net.util sun.nio.ch "
    "sun.security.action".split()
)


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """The folder `name` of the cache, filled by `make` if it is not there yet."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "radrecords-tests"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / name
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=cache) as unfinished:
            made = Path(unfinished, "made")
            made.mkdir()
            make(made)
            made.rename(folder)
    return folder


def need(*commands: str) -> None:
    """Skips the test if one of the commands is missing."""
    missing = [command for command in commands if not shutil.which(command)]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}")


def run(*words: object, **environment: str) -> None:
    """Runs a command that downloads. Skips the test if it fails, because there may be no network."""
    done = subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=600,
    )
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()
        pytest.skip(f"cannot be downloaded: {words[0]}: {lines[-1] if lines else done.returncode}")


def job_server() -> Path:
    """The jar of Beam's job server for Flink."""
    need("java", "mvn")
    digest = hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
    return cached(f"job-server-{digest}", _make_job_server) / "job-server.jar"


def _make_job_server(folder: Path) -> None:
    run("mvn", "-q", "-B", "-f", POM, "dependency:copy-dependencies", f"-DoutputDirectory={folder / 'lib'}")
    jars = " ".join(f"lib/{path.name}" for path in sorted((folder / "lib").glob("*.jar")))
    lines = {
        "Manifest-Version": "1.0",
        "Main-Class": "org.apache.beam.runners.flink.FlinkJobServerDriver",
        "Add-Opens": OPENED,
        "Class-Path": jars,
    }
    with zipfile.ZipFile(folder / "job-server.jar", "w") as archive:
        archive.writestr(
            "META-INF/MANIFEST.MF", "".join(f"{_folded(f'{name}: {text}')}\n" for name, text in lines.items())
        )


def _folded(line: str) -> str:
    """A line of a manifest, which may be 72 bytes long."""
    return "\n ".join(line[start : start + 70] for start in range(0, len(line), 70))


def flink() -> Path:
    """The folder `lib` of Flink, with `bash-java-utils.jar` beside it in `bin`."""
    need("java")
    return cached(f"flink-{FLINK_VERSION}", _make_flink) / "lib"


def _make_flink(folder: Path) -> None:
    name = f"apache-flink-libraries=={FLINK_VERSION}"
    run(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-build-isolation", "-d", folder, name)
    (source,) = folder.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        for member in archive.getmembers():
            _, _, inside = member.name.partition("/deps/")
            if inside.startswith(("lib/", "bin/")):
                member.name = inside
                archive.extract(member, folder, filter="data")
    source.unlink()


def prism() -> Path:
    """Beam's engine Prism, in the version of the installed Beam."""
    need("go")
    version = apache_beam.__version__

    def make(folder: Path) -> None:
        run("go", "install", f"{PRISM}@v{version}", GOBIN=str(folder), GOFLAGS="-modcacherw")

    return cached(f"prism-{version}", make) / "prism"

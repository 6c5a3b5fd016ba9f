"""A Flink cluster on this machine: a JobManager and TaskManagers, started as Flink's scripts start them."""

import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.engines.downloads import OPENED

_OPENS = [f"--add-opens={package}=ALL-UNNAMED" for package in OPENED.split()]
_SHORT_LIVED = [
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
]  # less time for compiling, which pays off in minutes only
_PATIENCE_SECONDS = 120
_LOG4J = """
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = console
appender.console.name = console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss,SSS} %-5p %c{1} - %m%n
"""


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return int(one.getsockname()[1])


@dataclass
class Cluster:
    """A cluster, in a `with` statement, with its logs and settings in `folder`. `path`: the PATH of its TaskManagers, which
    leads to the workers' command."""

    lib: Path
    folder: Path
    settings: Mapping[str, str]
    path: str
    port: int = field(default_factory=free_port)
    task_managers: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def __enter__(self) -> "Cluster":
        conf = {
            "jobmanager.rpc.address": "localhost",
            "jobmanager.rpc.port": str(free_port()),
            "rest.address": "localhost",
            "rest.port": str(self.port),
            "blob.server.port": "0",
            "io.tmp.dirs": str(self.folder),
            "parallelism.default": "1",
            "jobmanager.memory.process.size": "1000m",
            **self.settings,
        }
        self.folder.mkdir(parents=True)
        (self.folder / "log4j.properties").write_text(_LOG4J)
        (self.folder / "config.yaml").write_text("".join(f"{name}: {value}\n" for name, value in conf.items()))
        entry = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
        self._job_manager = self._java("job-manager", "-Xmx400m", entry, "--host", "localhost")
        self.wait_until(lambda: self.get("/overview") is not None)
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self.task_managers, self._job_manager):
            process.kill()
            process.wait()

    @property
    def master(self) -> str:
        """The address of its REST API."""
        return f"localhost:{self.port}"

    def start_task_managers(self, number: int = 1) -> None:
        """Starts TaskManagers and waits until the cluster has their slots."""
        for _ in range(number):
            self._start_task_manager()
        self.wait_until(lambda: (self.get("/overview") or {})["taskmanagers"] == len(self.task_managers))

    def _start_task_manager(self) -> None:
        entry = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
        asked = ["GET_TM_RESOURCE_PARAMS", "--configDir", str(self.folder)]
        utils = f"{self.lib.parent}/bin/*:{self.lib}/*"
        said = subprocess.run(
            ["java", "-cp", utils, "org.apache.flink.runtime.util.bash.BashJavaUtils", *asked],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        jvm, settings = re.findall(r"BASH_JAVA_UTILS_EXEC_RESULT:(.*)", said)
        name = f"task-manager-{len(self.task_managers)}"
        self.task_managers.append(self._java(name, *jvm.split(), entry, *settings.split()))

    def _java(self, name: str, *words: str) -> "subprocess.Popen[bytes]":
        main = next(word for word in words if word.startswith("org.apache.flink"))
        at = words.index(main)
        with (self.folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [
                    "java",
                    *_OPENS,
                    f"-Dlog4j.configurationFile={self.folder}/log4j.properties",
                    *words[:at],
                    "-cp",
                    f"{self.lib}/*",
                    main,
                    "--configDir",
                    str(self.folder),
                ]
                + list(words[at + 1 :]),
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={"PATH": self.path, "HOME": str(self.folder), "TMPDIR": str(self.folder)},
                start_new_session=True,
                preexec_fn=end_with_parent,
            )

    def get(self, path: str) -> Any:
        """What the REST API says, or None if it does not answer."""
        try:
            with urllib.request.urlopen(f"http://{self.master}{path}", timeout=5) as answer:
                return json.load(answer)
        except OSError:
            return None

    def jobs(self) -> dict[str, str]:
        """Name -> state of each job."""
        return {job["name"]: job["state"] for job in self.get("/jobs/overview")["jobs"]}

    def wait_until(self, happened: Any) -> None:
        """Waits until `happened()` is true."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not happened():
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.1)

    def logs(self) -> str:
        """The ends of all logs."""
        return "\n".join(f"{path.name}: {path.read_text()[-3000:]}" for path in sorted(self.folder.glob("*.log")))

    def workers(self) -> list[int]:
        """The ids of the workers' processes."""
        return [pid for pid, words in processes().items() if any(word.endswith("/radrecords-worker") for word in words)]


def end_with_parent() -> None:
    """Ends this process together with the tests."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def processes() -> dict[int, list[str]]:
    """Id -> command line of every process of this machine."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found[int(folder.name)] = (folder / "cmdline").read_text(errors="replace").split("\0")
        except OSError:
            continue
    return found


def parent_of(process: int) -> int:
    """The id of the process that started this one."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def kill(process: int) -> None:
    """kill -9."""
    os.kill(process, signal.SIGKILL)

"""What Flink's REST API says about a cluster and its jobs, and how it cancels one."""

import http.client
import json
import urllib.request
from typing import Any, NamedTuple

_SECONDS = 10
ENDED = ("FINISHED", "FAILED", "CANCELED")  # a job in one of these states runs nowhere
# Flink's own clients do not use the proxies that the environment names, either.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Cluster(NamedTuple):
    """A cluster: the slots of all its TaskManagers, those that are free, and the version of Flink (`1.19.3`)."""

    slots: int
    free: int
    version: str


class Job(NamedTuple):
    """A job and its state (`RUNNING`)."""

    id: str
    state: str


def address_of(master: str) -> str:
    """The address of the REST API that `--flink_master` names: `http://HOST:8081` for `HOST:8081`. Without a cluster of its
    own (`[local]`, `[auto]`), ""."""
    master = master.strip().rstrip("/")
    if not master or master in ("[local]", "[auto]"):
        return ""
    return master if "://" in master else f"http://{master}"


def cluster(address: str) -> Cluster:
    """The cluster at `address`. Raises OSError if no Flink answers."""
    said = _ask(address, "/overview")
    return Cluster(said["slots-total"], said["slots-available"], said["flink-version"])


def job_named(address: str, name: str) -> Job | None:
    """The last job of this name, or None. Raises OSError if no Flink answers."""
    jobs = [job for job in _ask(address, "/jobs/overview")["jobs"] if job["name"] == name]
    last = max(jobs, key=lambda job: job["start-time"], default=None)
    return Job(last["jid"], last["state"]) if last else None


def why_restarted(address: str, job: str) -> tuple[int, str]:
    """How often tasks of a job failed, and the last of these errors. Raises OSError if no Flink answers."""
    entries = _ask(address, f"/jobs/{job}/exceptions").get("exceptionHistory", {}).get("entries", [])
    return len(entries), entries[0]["stacktrace"] if entries else ""


def cancel(address: str, job: str) -> None:
    """Asks Flink to cancel a job, which takes a moment. Raises OSError if it does not answer."""
    _ask(address, f"/jobs/{job}?mode=cancel", "PATCH")


def reason(error: OSError) -> str:
    """Why Flink did not answer."""
    return str(getattr(error, "reason", None) or error)


def _ask(address: str, path: str, method: str = "GET") -> Any:
    try:
        request = urllib.request.Request(f"{address}/v1{path}", method=method)
        with _direct.open(request, timeout=_SECONDS) as answer:
            return json.load(answer)
    except (ValueError, http.client.HTTPException) as error:  # something else listens there
        raise OSError("what answers is not Flink's REST API") from error

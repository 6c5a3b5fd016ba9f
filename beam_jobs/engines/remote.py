"""A job on another engine, as its launcher knows it: also before Beam is loaded, and after the job's processes are gone."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from beam_jobs.engines import flink_rest, job_api
from beam_jobs.local.supervise import Ended
from beam_jobs.settings.beam_flags import is_local, value_of
from beam_jobs.settings.config import ConvertConfig
from schemas.errors import UsageError

_APPEARS_SECONDS = 5  # until Flink lists a job that was submitted at the last moment
_PAUSE_SECONDS = 0.5


@dataclass(frozen=True)
class RemoteJob:
    """The job of one launch. `name`: unique to this launch. `flink`: the address of Flink's REST API. `server`: that of a
    job server elsewhere. Both are "" if the engine ends with the launcher. `detach`: an interrupt leaves the job alone."""

    name: str
    flink: str = ""
    server: str = ""
    detach: bool = False

    def end(self, seconds: float = _APPEARS_SECONDS) -> Ended:
        """Cancels the job, unless it has ended or is to go on, and waits until it is cancelled. Says what became of it.
        `seconds`: how long to wait for a job that is not listed."""
        try:
            if self.flink:
                return self._end_on_flink(seconds)
            if self.server and job_api.cancel(self.server, self.name) == "CANCELLED":
                # Flink goes on all the same, but such a job publishes nothing (releases.check_launched).
                return Ended(f"{self.server} was told to cancel the job {self.name}")
        except KeyboardInterrupt:  # again
            return Ended(f"the job {self.name} is being cancelled")
        except OSError as error:
            return Ended(
                f"{self.flink or self.server} does not answer ({flink_rest.reason(error)}): if the job {self.name} is still "
                "there, it goes on and publishes unless you cancel it",
                goes_on=True,
            )
        return Ended()

    def _end_on_flink(self, seconds: float) -> Ended:
        until = time.monotonic() + seconds
        while (job := flink_rest.job_named(self.flink, self.name)) is None and time.monotonic() < until:
            time.sleep(_PAUSE_SECONDS)
        if job is None or job.state in flink_rest.ENDED:
            return Ended()
        if self.detach:
            return Ended(f"the job {self.name} goes on at {self.flink}", goes_on=True)
        flink_rest.cancel(self.flink, job.id)
        while job and job.state not in flink_rest.ENDED:
            time.sleep(_PAUSE_SECONDS)
            job = flink_rest.job_named(self.flink, self.name)
        cancelled = job is None or job.state == "CANCELED"
        return Ended(f"the job {self.name} was cancelled") if cancelled else Ended()


def remote_job(beam_flags: Sequence[str], config: ConvertConfig, detach: bool) -> RemoteJob | None:
    """The job that Beam's flags launch on another engine, or None if it runs on this machine. Raises UsageError if it cannot
    be detached."""
    on_flink = value_of(beam_flags, "--runner") == "FlinkRunner"
    flink = flink_rest.address_of(value_of(beam_flags, "--flink_master")) if on_flink else ""
    if detach and not flink:
        raise UsageError("--detach needs a Flink cluster: --runner=FlinkRunner --flink_master=HOST:8081")
    if is_local(beam_flags):
        return None
    given = value_of(beam_flags, "--job_name") or f"radrecords-{config.name}"
    server = value_of(beam_flags, "--job_endpoint")
    return RemoteJob(f"{given}-{config.launch[:8]}", flink, "" if server == "embed" else server, detach)

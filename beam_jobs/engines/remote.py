"""A job on another engine, as its launcher knows it: also before Beam is loaded, and after the job's processes are gone."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from beam_jobs.engines import flink_rest
from beam_jobs.local.supervise import Ended
from beam_jobs.settings.beam_flags import is_local, value_of
from beam_jobs.settings.config import ConvertConfig
from schemas.errors import UsageError

_APPEARS_SECONDS = 5  # until Flink lists a job that was submitted at the last moment
_PAUSE_SECONDS = 0.5


@dataclass(frozen=True)
class RemoteJob:
    """The job of one launch. `name`: unique to this launch. `flink`: the address of Flink's REST API; "" for every other
    engine, and for a Flink inside the launcher, which ends with it. `detach`: an interrupt leaves the job alone."""

    name: str
    flink: str
    detach: bool

    def end(self, seconds: float = _APPEARS_SECONDS) -> Ended:
        """Cancels the job, unless it has ended or is to go on, and waits until it is cancelled. Says what became of it.
        `seconds`: how long to wait for a job that is not listed."""
        if not self.flink:
            return Ended()
        try:
            job = self._listed(seconds)
            if job is None or job.state in flink_rest.ENDED:
                return Ended()
            if self.detach:
                return Ended(f"the job {self.name} goes on at {self.flink}", goes_on=True)
            return self._cancelled(job)
        except OSError as error:
            return Ended(
                f"Flink at {self.flink} does not answer ({flink_rest.reason(error)}): if the job {self.name} is still "
                "there, it goes on and publishes unless you cancel it",
                goes_on=True,
            )

    def _listed(self, seconds: float) -> flink_rest.Job | None:
        until = time.monotonic() + seconds
        while (job := flink_rest.job_named(self.flink, self.name)) is None and time.monotonic() < until:
            time.sleep(_PAUSE_SECONDS)
        return job

    def _cancelled(self, job: flink_rest.Job) -> Ended:
        try:
            flink_rest.cancel(self.flink, job.id)
            while (now := flink_rest.job_named(self.flink, self.name)) and now.state not in flink_rest.ENDED:
                time.sleep(_PAUSE_SECONDS)
        except KeyboardInterrupt:  # again
            return Ended(f"the job {self.name} is being cancelled")
        return Ended(f"the job {self.name} was cancelled") if now is None or now.state == "CANCELED" else Ended()


def remote_job(beam_flags: Sequence[str], config: ConvertConfig, detach: bool) -> RemoteJob | None:
    """The job that Beam's flags launch on another engine, or None if it runs on this machine. Raises UsageError if a local
    job is to be detached."""
    if is_local(beam_flags):
        if detach:
            raise UsageError("--detach needs a --runner on other machines: a job on this one ends with its command")
        return None
    given = value_of(beam_flags, "--job_name") or f"radrecords-{config.name}"
    flink = value_of(beam_flags, "--runner") == "FlinkRunner"
    master = flink_rest.address_of(value_of(beam_flags, "--flink_master")) if flink else ""
    return RemoteJob(f"{given}-{config.launch[:8]}", master, detach)

"""Cancels a job through a job server of Beam that runs elsewhere (--job_endpoint)."""

import time

_SECONDS = 10
_PAUSE_SECONDS = 0.5
_ENDED = ("DONE", "FAILED", "CANCELLED", "DRAINED", "UPDATED")


def cancel(endpoint: str, name: str) -> str:
    """Cancels the job of this name at `endpoint`, and waits until it has ended. Returns its last state (`CANCELLED`), "" if
    there is none. Raises OSError if no job server answers."""
    import grpc
    from apache_beam.portability.api import beam_job_api_pb2 as messages
    from apache_beam.portability.api import beam_job_api_pb2_grpc as services

    with grpc.insecure_channel(endpoint) as channel:
        server = services.JobServiceStub(channel)
        try:
            jobs = server.GetJobs(messages.GetJobsRequest(), timeout=_SECONDS).job_info
            # A job server makes its ids from the name of the job.
            ids = [job.job_id for job in jobs if job.job_id.startswith(name)]
            if not ids:
                return ""
            asked = messages.GetJobStateRequest(job_id=ids[-1])
            state = _name_of(server.GetState(asked, timeout=_SECONDS).state)
            if state not in _ENDED:
                server.Cancel(messages.CancelJobRequest(job_id=ids[-1]), timeout=_SECONDS)
            while state not in _ENDED:
                time.sleep(_PAUSE_SECONDS)
                state = _name_of(server.GetState(asked, timeout=_SECONDS).state)
            return state
        except grpc.RpcError as error:
            raise OSError(str(error.code().name)) from error


def _name_of(state: int) -> str:
    from apache_beam.portability.api import beam_job_api_pb2 as messages

    return str(messages.JobState.Enum.Name(state))

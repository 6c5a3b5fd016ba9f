"""`radrecords-worker`: a worker process on a machine of Flink (environment type PROCESS) or of a worker pool.

`pip install radrecords` installs this command. It takes the place of Beam's own boot program, which comes only in
Beam's containers: it asks the engine that started it for the options of the job, and becomes Beam's Python worker. It
installs nothing, so the machine must have what the job needs.
"""

import contextlib
import functools
import json
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from beam_jobs.engines import flink_rest
from beam_jobs.local.lean_beam import load_beam
from beam_jobs.local.lifeline import end_with_parent
from schemas.errors import CommandParser, JobFailed, run_command

_LOOK_SECONDS = 20  # between two looks at the job
_SECONDS = 60  # until the engine must have answered; it is on the same machine


def main() -> int:
    """The entry point of the console script. Returns its exit code: 0, 1 if the job cannot be reached, 2 for bad usage."""
    return run_command(work)


def work(argv: Sequence[str]) -> None:
    """Works for one job, until it ends. Ends with the process that started it. Raises UsageError without the flags that an
    engine gives, and JobFailed if the engine does not answer."""
    parser = CommandParser(
        "beam_jobs.engines.worker", "A worker of a job on Flink. Flink starts it; nobody else needs to."
    )
    parser.add_argument("--id", required=True, help="the name that the engine gave to this worker")
    parser.add_argument("--provision_endpoint", required=True, metavar="HOST:PORT", help="where the job's options are")
    parser.add_argument("--control_endpoint", default="", metavar="HOST:PORT", help="where the work comes from")
    parser.add_argument("--logging_endpoint", default="", metavar="HOST:PORT", help="where log lines go")
    flags, _ = parser.parse_known_args(argv)  # an engine gives more, for the artifacts that this program ignores
    end_with_parent()
    # More threads make no matrix product of this size faster, and they spin while they wait for work.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Beam's clients of services are left out: this worker's buckets and secrets are read without them. Between two steps
    # that do not overlap, Flink ends its workers and starts others, so the time that a start takes counts.
    load_beam()
    os.environ.update(environment(flags.id, flags.provision_endpoint, flags.control_endpoint, flags.logging_endpoint))
    _end_with_job(json.loads(os.environ["PIPELINE_OPTIONS"]))
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main([sys.argv[0]])


def _end_with_job(options: Mapping[str, Any]) -> None:
    """From now on, this process ends soon after its job. Flink forgets workers whose task has failed, and would leave them
    running as long as their TaskManager."""
    address = flink_rest.address_of(str(options.get("beam:option:flink_master:v1", "")))
    name = str(options.get("beam:option:job_name:v1", ""))

    def watch() -> None:
        while True:
            time.sleep(_LOOK_SECONDS)
            with contextlib.suppress(OSError):  # not every machine may reach the REST API
                job = flink_rest.job_named(address, name)
                if job and job.state in flink_rest.ENDED:
                    os._exit(0)

    if address and name:
        threading.Thread(target=watch, daemon=True).start()


def environment(worker: str, provision: str, control: str, logging: str) -> Mapping[str, str]:
    """The variables through which Beam's worker is told about its job, from what the service at `provision` says; see
    "SDK harness container contract" in Beam's documentation. Raises JobFailed if it does not answer."""
    import grpc
    from apache_beam.portability.api import beam_provision_api_pb2 as messages
    from apache_beam.portability.api import beam_provision_api_pb2_grpc as services
    from google.protobuf import json_format

    with grpc.insecure_channel(provision) as channel:
        ask = functools.partial(services.ProvisionServiceStub(channel).GetProvisionInfo, timeout=_SECONDS)
        try:
            info = ask(messages.GetProvisionInfoRequest(), metadata=[("worker_id", worker)]).info
        except grpc.RpcError as error:
            raise JobFailed(f"the engine at {provision} does not say what to do: {error.code().name}") from error
    return {
        "WORKER_ID": worker,
        "PIPELINE_OPTIONS": json_format.MessageToJson(info.pipeline_options),
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
        **_service("CONTROL", info.control_endpoint.url or control),
        **_service("LOGGING", info.logging_endpoint.url or logging),
        **_service("STATUS", info.status_endpoint.url),
    }


def _service(name: str, address: str) -> dict[str, str]:
    return {f"{name}_API_SERVICE_DESCRIPTOR": f'url: "{address}"'} if address else {}


if __name__ == "__main__":
    sys.exit(main())

"""Trials in several processes, each with its share of the cores."""

import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import wait

from schemas.decoders.pool import cores
from schemas.errors import JobFailed, UsageError, run_command
from training.config import TuneConfig
from training.loading import quiet_loading
from training.models.recipes import recipe

_PATIENCE_SECONDS = 20


def run_in_processes(config: TuneConfig, shares: Sequence[int]) -> None:
    """Runs study.run_trials in one process for each of `shares`, the numbers of their trials. Raises JobFailed if one of
    them fails; the others are ended then."""
    context = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
    threads = max(1, cores() // len(shares))
    portable = replace(config, recipe=replace(config.recipe, body=None))  # code is not pickled: see _run
    processes = [
        context.Process(target=_run, args=(portable, share, job, threads, os.getpid()), daemon=True)
        for job, share in enumerate(shares)
    ]
    try:
        for process in processes:
            process.start()
        running = processes
        while running:
            wait([process.sentinel for process in running])
            if codes := [process.exitcode for process in running if process.exitcode]:
                raise JobFailed(f"a process of --jobs ended with exit code {codes[0]}; start again with --resume")
            running = [process for process in running if process.exitcode is None]
    except KeyboardInterrupt:
        for process in processes:
            process.join(_PATIENCE_SECONDS)  # a terminal interrupts them too, and they finish a step
        raise
    finally:
        for process in processes:
            if process.pid:
                process.terminate()
                process.join()


def _run(config: TuneConfig, trials: int, job: int, threads: int, parent: int) -> None:
    """What each process does. It loads the code of the user's own recipe again."""
    for variable in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(variable, str(threads))
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")

    def work(_argv: Sequence[str]) -> None:
        with quiet_loading():
            own = recipe(config.recipe.source) if config.recipe.sha256 else config.recipe
        if own.sha256 != config.recipe.sha256:
            raise UsageError(f"--recipe {config.recipe.source} has changed since the search began")
        with quiet_loading():
            from training.tuning.study import run_trials
        run_trials(replace(config, recipe=own), trials, job, parent)

    raise SystemExit(run_command(work, []))

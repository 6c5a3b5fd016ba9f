"""Beam's handlers: ONNX Runtime runs the network, and RunInference scores whole shards with it.

An element of RunInference is a shard, not an image. So pixels never leave the worker that decoded them, a finished shard is
kept when the job is interrupted, which a shuffle behind the inference would prevent, and the batches of a shard depend only
on its images, so that its bytes do too. RunInference loads the model once a process.
"""

import json
import threading
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from apache_beam.ml.inference.base import ModelHandler
from apache_beam.ml.inference.onnx_inference import OnnxModelHandlerNumpy

from beam_jobs.elements import Reference, ShardResult
from beam_jobs.passing import counters, status
from beam_jobs.passing.counters import Measured
from beam_jobs.scoring.config import ScoringConfig
from beam_jobs.scoring.export import checked_bytes
from beam_jobs.scoring.shards import Scored, ShardToScore, score_batch, score_shard
from beam_jobs.write import trial
from schemas.decoders.pool import cores
from schemas.errors import JobFailed, one_line

_running = threading.BoundedSemaphore(cores())  # each run takes memory for the activations of its batch


class ExportHandler(OnnxModelHandlerNumpy):
    """Beam's handler of ONNX models, for an export with this SHA-256. uint8 [height, width, channels] -> float32 [outputs].

    Each run takes one thread, because the threads that read and decode run the model too, each with its own batch.
    """

    def __init__(self, place: str, sha256: str) -> None:
        super().__init__(place)
        self._place, self._sha256 = place, sha256

    def load_model(self) -> onnxruntime.InferenceSession:
        """The session. Raises JobFailed if the model was changed, or if ONNX Runtime refuses it."""
        data = checked_bytes(self._place, self._sha256)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors
        try:
            return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no common base
            raise JobFailed(f"ONNX Runtime cannot load the model {self._place}: {one_line(str(error), 200)}") from error

    def probabilities(
        self, images: Sequence[npt.NDArray[np.uint8]], session: onnxruntime.InferenceSession, outputs: int
    ) -> npt.NDArray[np.float64]:
        """float64 [images, outputs]. Raises JobFailed if the network cannot be run, or gives anything else."""
        if not images:
            return np.empty((0, outputs))
        try:
            with _running:
                results = self.run_inference(images, session)
            found = np.array([result.inference for result in results], np.float64)
        except Exception as error:
            raise JobFailed(f"the model {self._place} cannot be run: {one_line(str(error), 200)}") from error
        if found.shape != (len(images), outputs) or not np.isfinite(found).all():
            raise JobFailed(
                f"the model {self._place} does not give {outputs} finite number(s) an image; export the run again"
            )
        return found


class ShardScorer(ModelHandler[ShardToScore, ShardResult, onnxruntime.InferenceSession]):
    """ShardToScore -> the ShardResult of `score_shard`."""

    def __init__(self, config: ScoringConfig, prefix: str, work: str, status_folder: str) -> None:
        super().__init__(min_batch_size=1, max_batch_size=1)
        self._export = ExportHandler(config.model, config.model_sha256)
        self._settings = config, prefix, work, status_folder

    def load_model(self) -> onnxruntime.InferenceSession:
        """The session; an error is reported to the launcher."""
        with status.failures(self._settings[-1]):
            return self._export.load_model()

    def run_inference(
        self,
        batch: Sequence[ShardToScore],
        model: onnxruntime.InferenceSession,
        inference_args: dict[str, Any] | None = None,  # noqa: ARG002 - as Beam calls it
    ) -> Iterable[ShardResult]:
        """Scores the shards, one after the other."""
        outputs = self._settings[0].exported.outputs
        results = []
        for shard in batch:
            result, measured = score_shard(
                shard, lambda images: self._export.probabilities(images, model, outputs), *self._settings
            )
            reasons = [each.reason for each in result.quarantined]
            counters.count_shard(result.shard.examples, reasons, result.skipped, result.shard.bytes, measured)
            results.append(result)
        return results

    def get_num_bytes(self, batch: Sequence[ShardToScore]) -> int:
        """The size of the shards' image files."""
        return sum(shard.bytes for shard in batch)

    def get_metrics_namespace(self) -> str:
        """The name that Beam's handler has."""
        return str(self._export.get_metrics_namespace())


def trial_of(config: ScoringConfig, status_folder: str) -> tuple[trial.Rate, float]:
    """How fast the images that trial.ChooseImages chose are scored on this machine, and the mean size of their rows as JSON
    lines, in bytes; 0 without a row."""
    handler = ExportHandler(config.model, config.model_sha256)
    session = handler.load_model()
    sizes: list[int] = []

    def of_batch(batch: list[Reference], measured: Measured) -> None:
        outcomes = score_batch(
            batch, lambda images: handler.probabilities(images, session, config.exported.outputs), config, measured
        )
        sizes.extend(len(json.dumps(outcome.row)) + 1 for outcome in outcomes if isinstance(outcome, Scored))

    rate = trial.rate(status_folder, of_batch)
    return rate, sum(sizes) / max(1, len(sizes))


def check_model(config: ScoringConfig) -> None:
    """Raises JobFailed, before a pipeline starts, if the model cannot be run on a black image."""
    handler = ExportHandler(config.model, config.model_sha256)
    black = np.zeros(config.image.shape, np.uint8)
    handler.probabilities([black], handler.load_model(), config.exported.outputs)

"""Runs a small pipeline in memory and returns its outputs as plain lists."""

import uuid
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

# By run and output. The runner's threads are in this process, so they can fill it.
_gathered: defaultdict[tuple[str, str], list[Any]] = defaultdict(list)


def output_of(transform: beam.PTransform[Any, Any], elements: Iterable[Any]) -> list[Any]:
    """The output of a transform for these elements, in any order."""
    return outputs_of(transform, elements)[""]


def outputs_of(transform: beam.PTransform[Any, Any], elements: Iterable[Any]) -> dict[str, list[Any]]:
    """The outputs of a transform for these elements, each in any order, by the name of the output."""
    run = uuid.uuid4().hex
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        result = pipeline | beam.Create(list(elements)) | transform
        outputs = result if isinstance(result, dict) else {"": result}
        for name, output in outputs.items():
            _ = output | f"Gather {name}" >> beam.Map(_gather, run, name)
    return {name: _gathered.pop((run, name), []) for name in outputs}


def _gather(element: Any, run: str, name: str) -> None:
    _gathered[run, name].append(element)

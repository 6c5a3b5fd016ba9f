"""Gives the workers of a job on other machines what they need to equal the launcher, and to notice if they do not."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from apache_beam.options.pipeline_options import PipelineOptions

from beam_jobs.remote import start, versions
from beam_jobs.settings.config import ConvertConfig
from beam_jobs.storage import storage

_PLACES = ("input", "manifest", "retry_quarantine", "near_duplicates_of", "id_key_file", "model")


@contextlib.contextmanager
def equipped(config: ConvertConfig, status_folder: str, options: PipelineOptions) -> Iterator[ConvertConfig]:
    """The config that the workers get. While the body of the `with` starts a job, `options` names what they install. Does
    nothing for a job on this machine. Raises UsageError if there is nothing that they could install."""
    if config.local or config.dry_run:
        yield config
        return
    from beam_jobs.remote import shipping  # a local run does not wait for it

    places = [getattr(config, name, "") for name in _PLACES]  # only predictions have a model
    in_buckets = any(storage.is_shared(place) for place in (*places, config.output))
    tfio = config.dicom_decoder == "tfio"
    extras = (*config.worker_extras, *(["gcp"] if in_buckets else ()), *(["tfio"] if tfio else ()))
    compared = (*config.compared, *(versions.TFIO if tfio else ()))
    with shipping.shipped(options, extras, compared):
        start.claim(status_folder, places)
        yield replace(config, launcher=versions.installed(compared))

"""Ensembles: the mean of the probabilities of several networks, which differ in their seeds (Lakshminarayanan et al. 2017,
NeurIPS, "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles").

OUTPUT/                      the ensemble, a run like any other
OUTPUT/members/0, 1, ...     the runs of its members
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import keras
import numpy as np

from training.config import TrainConfig
from training.devices.feeds import Feeding, evaluate, make_feed
from training.fitting.run_log import Row, kept_epoch
from training.models.networks import member
from training.reading.records import Split, naming_damaged_shards
from training.runs import run_folder
from training.runs.run_bucket import working_copy

MEMBERS = "members"


def member_configs(config: TrainConfig) -> list[TrainConfig]:
    """How each member of an ensemble is trained; none if `config` is for a single network. The seeds of the members of
    different ensembles differ, also where the ensembles' own seeds follow each other."""
    count = config.recipe.ensemble
    if count == 1:
        return []
    seeds = np.random.SeedSequence(config.seed).generate_state(count) >> 1  # below 2**31
    return [
        replace(
            config,
            recipe=replace(config.recipe, ensemble=1),
            seed=int(seed),
            output=f"{config.output.rstrip('/')}/{MEMBERS}/{number}",
        )
        for number, seed in enumerate(seeds)
    ]


def put_together(model: keras.Model, members: Sequence[TrainConfig], folder: str) -> None:
    """Gives the ensemble `model` the weights of its finished members, and writes them and the history to the run in
    `folder`: the means of the members' figures, epoch by epoch, as far as all have been trained.

    Raises UsageError if a member is damaged.
    """
    histories = []
    for number, config in enumerate(members):
        with working_copy(config.output, (*run_folder.MODEL, run_folder.HISTORY)) as copy:
            found, run = run_folder.load_run(copy.folder, config.recipe)
            member(model, number).set_weights(found.get_weights())
            rows = run_folder.read_history(copy.folder)
        histories.append(rows[: kept_epoch(rows, run.recipe.keep) + 1])
    model.save_weights(Path(folder, run_folder.WEIGHTS), overwrite=True)
    rows = [{name: fmean(row[name] for row in same) for name in same[0]} for same in zip(*histories, strict=False)]
    run_folder.write_history(folder, rows)


def validated(model: keras.Model, split: Split, batch_size: int, devices: int) -> Row:
    """The figures of a compiled model on the split validation, named as in the history. Raises JobFailed for damaged
    shards."""
    feed = make_feed(split, Feeding(batch_size, 0, devices), training=False, epochs=1)
    with naming_damaged_shards([split]):
        return {f"val_{name}": value for name, value in evaluate(model, feed).items()}

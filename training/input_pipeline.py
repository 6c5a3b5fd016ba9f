"""From a data set folder to batches on the device. Only shards that the manifest names are read.

    seeded file order -> interleave -> shuffle -> batch -> one vectorised parse -> prefetch -> device prefetch

A split that fits into memory is parsed once, kept as uint8, and then shuffled as a whole each epoch. Either way the
order of the examples is a function of the seed and the epoch alone, and every example comes exactly once an epoch.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from schemas import example
from schemas.dataset import MANIFEST, Manifest, Shard
from schemas.errors import JobFailed, UsageError

READ_AT_ONCE = 16  # shards open at a time
READ_BYTES = 8 << 20  # of each
SHUFFLE_EXAMPLES = 16_384  # shuffled at a time, of a split that does not fit into memory
CACHE_BYTES = 2 << 30

# Cut or changed records, too few or too many of them, records of another content, no file.
_errors = tf.errors
DAMAGE = (_errors.DataLossError, _errors.FailedPreconditionError, _errors.InvalidArgumentError, _errors.NotFoundError)


@dataclass(frozen=True)
class Split:
    """One split of a data set: its folder (local or gs://), its name, its shards, the shape of its images."""

    folder: str
    name: str
    shards: tuple[Shard, ...]
    shape: tuple[int, int, int]

    @property
    def examples(self) -> int:
        return sum(shard.examples for shard in self.shards)

    @property
    def image_bytes(self) -> int:
        return self.examples * int(np.prod(self.shape))

    def path(self, shard: Shard) -> str:
        return f"{self.folder.rstrip('/')}/{shard.file}"


@dataclass(frozen=True)
class Order:
    """The order of a training split, a function of `seed` and the number of the epoch.

    `first_epoch` is an int64 variable, read when an iteration begins: a resumed run knows its epoch only then.
    """

    seed: int
    first_epoch: tf.Variable


def open_dataset(folder: str) -> Manifest:
    """The manifest of the data set in `folder`. Raises UsageError, in one line, where there is none to read."""
    # TensorFlow reads these once, at the first access to gs://. Its default block of 64 MiB is allocated for every open
    # file: over 1 GiB for the shards that are read at a time.
    os.environ.setdefault("GCS_READ_CACHE_BLOCK_SIZE_MB", str(READ_BYTES >> 20))
    path = f"{folder.rstrip('/')}/{MANIFEST}"
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            text = file.read().decode("utf-8", errors="replace")
    except tf.errors.NotFoundError as error:
        raise UsageError(
            f"folder {folder} has no {MANIFEST}: it is not a published data set; "
            "make one with python -m beam_jobs.convert"
        ) from error
    except tf.errors.OpError as error:
        raise UsageError(f"cannot read {path}: {error.message}") from error
    return Manifest.from_json(text, folder)


def open_split(folder: str, manifest: Manifest, name: str) -> Split:
    """The split `name` of the data set. Raises UsageError where the data set has it not, or it is empty."""
    split = Split(folder, name, manifest.shards(name), manifest.shape)
    if not split.examples:
        raise UsageError(f"split {name} of {folder} is empty")
    return split


def all_splits(folder: str, manifest: Manifest) -> list[Split]:
    """Every split of the data set, also those that are empty."""
    return [Split(folder, name, shards, manifest.shape) for name, shards in manifest.splits.items()]


def strangers(folder: str, manifest: Manifest) -> list[str]:
    """The files in `folder` that look like shards and are not in the manifest. Nothing reads them."""
    try:
        return manifest.strangers(tf.io.gfile.listdir(folder))
    except tf.errors.OpError as error:
        raise UsageError(f"cannot list {folder}: {error.message}") from error


def check_shards(splits: Sequence[Split], checksums: bool = False) -> None:
    """Checks that every shard is there, in the manifest's size; with `checksums`, which reads it all, that its SHA-256
    is the manifest's. Raises JobFailed that names each shard that is not so."""
    owners = [split for split in splits for _ in split.shards]
    shards = [shard for split in splits for shard in split.shards]
    with ThreadPoolExecutor(READ_AT_ONCE) as pool:  # on gs:// each look is a request
        _report(splits, [fault for fault in pool.map(_size_fault, owners, shards) if fault])
        if checksums:
            _report(splits, [fault for fault in pool.map(_checksum_fault, owners, shards) if fault])


@contextmanager
def naming_damaged_shards(splits: Sequence[Split]) -> Iterator[None]:
    """Turns TensorFlow's error for a damaged shard, which does not say where, into a JobFailed that does."""
    try:
        yield
    except DAMAGE:
        _report(splits, [fault for split in splits for shard in split.shards if (fault := _read_fault(split, shard))])
        raise


def steps(split: Split, batch_size: int) -> int:
    """The number of batches in an epoch; the last holds what is left."""
    return -(-split.examples // batch_size)


def batches(
    split: Split,
    batch_size: int,
    order: Order | None = None,
    class_weights: Sequence[float] | None = None,
    cache_bytes: int = CACHE_BYTES,
) -> tf.data.Dataset:
    """Batches for Keras, epoch after epoch without end; an epoch is `steps` of them.

    Images are uint8 [batch, height, width, channels], labels float32 [batch, 1]. With `class_weights` a third part,
    float32 [batch], holds the weight of each example's class: Keras' own class_weight would append a map behind the
    device prefetch. Without `order` the examples come as stored. Raises JobFailed for damage in a split that is cached.

    Endless, and with the count given to Keras by its steps_per_epoch, because a dataset on a GPU has no cardinality:
    the op that asserts one has a CPU kernel only and would fetch every batch back (tensorflow/tensorflow#56508).
    """
    if split.image_bytes <= cache_bytes:
        dataset = _from_memory(split, batch_size, order)
    else:
        dataset = _from_shards(split, batch_size, order)
    weights = None if class_weights is None else tf.constant(class_weights, tf.float32)

    def for_keras(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, ...]:
        target = tf.cast(label, tf.float32)[:, tf.newaxis]
        return (image, target) if weights is None else (image, target, tf.gather(weights, label))

    return _to_device(dataset.map(for_keras).prefetch(tf.data.AUTOTUNE))


def identified_batches(split: Split, batch_size: int) -> tf.data.Dataset:
    """Images uint8 [batch, height, width, channels], labels int64 [batch] and ids string [batch], once, as stored."""
    records = _records(split, _paths(split)).batch(batch_size)
    return records.map(lambda r: _parse(r, split.shape), tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _from_memory(split: Split, batch_size: int, order: Order | None) -> tf.data.Dataset:
    with tf.device("CPU"), naming_damaged_shards([split]):
        parts = [(image, label) for image, label, _ in identified_batches(split, 4096)]
        images, labels = (tf.concat(column, axis=0) for column in zip(*parts, strict=True))

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        rows = tf.range(split.examples, dtype=tf.int64)
        if order is not None:
            rows = tf.random.experimental.stateless_shuffle(rows, _seeds(order, epoch))
        starts = tf.data.Dataset.range(0, split.examples, batch_size)
        return starts.map(lambda start: rows[start : start + batch_size])

    def gather(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.gather(images, rows), tf.gather(labels, rows)

    return _epochs(order).flat_map(one_epoch).map(gather, tf.data.AUTOTUNE)


def _from_shards(split: Split, batch_size: int, order: Order | None) -> tf.data.Dataset:
    paths = _paths(split)

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        if order is None:
            return _records(split, paths).batch(batch_size)
        seeds = _seeds(order, epoch)
        records = _records(split, tf.random.experimental.stateless_shuffle(paths, seeds))

        # Not Dataset.shuffle: its order depends on the process' global seed too.
        def shuffled(index: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
            seeds_of_window = tf.random.experimental.stateless_fold_in(seeds, index)
            return tf.random.experimental.stateless_shuffle(window, seeds_of_window)

        return records.batch(SHUFFLE_EXAMPLES).enumerate().map(shuffled).unbatch().batch(batch_size)

    def parse(records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image, label, _ = _parse(records, split.shape)
        return image, label

    return _epochs(order).flat_map(one_epoch).map(parse, tf.data.AUTOTUNE)


def _epochs(order: Order | None) -> tf.data.Dataset:
    """The numbers of the epochs, from the first on."""
    if order is None:
        return tf.data.Dataset.range(1).repeat()
    return tf.data.Dataset.range(1).flat_map(lambda _: tf.data.Dataset.range(order.first_epoch, tf.int64.max))


def _seeds(order: Order, epoch: tf.Tensor) -> tf.Tensor:
    return tf.stack([tf.constant(order.seed, tf.int64), epoch])


def _paths(split: Split) -> tf.Tensor:
    return tf.constant([split.path(shard) for shard in split.shards if shard.examples])


def _records(split: Split, paths: tf.Tensor) -> tf.data.Dataset:
    """Serialised examples from the files of `paths`: as many as the split has, or an error."""
    records = tf.data.Dataset.from_tensor_slices(paths).interleave(
        lambda path: tf.data.TFRecordDataset(path, buffer_size=READ_BYTES),
        cycle_length=READ_AT_ONCE,
        block_length=16,
        num_parallel_calls=READ_AT_ONCE,
        deterministic=True,
    )
    return records.apply(tf.data.experimental.assert_cardinality(split.examples))


def _parse(records: tf.Tensor, shape: tuple[int, int, int]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """One call for a whole batch: seven times as fast as one for each record."""
    features = tf.io.parse_example(
        records,
        {
            example.IMAGE: tf.io.FixedLenFeature([], tf.string),
            example.LABEL: tf.io.FixedLenFeature([], tf.int64),
            example.ID: tf.io.FixedLenFeature([], tf.string),
        },
    )
    pixels = tf.io.decode_raw(features[example.IMAGE], tf.uint8)
    return tf.reshape(pixels, [-1, *shape]), features[example.LABEL], features[example.ID]


def _to_device(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Copies batches ahead where there is a GPU. Nothing may follow: it would fetch them back."""
    if not tf.config.list_physical_devices("GPU"):
        return dataset
    return dataset.apply(tf.data.experimental.prefetch_to_device("/GPU:0"))


def _report(splits: Sequence[Split], faults: Sequence[str]) -> None:
    if faults:
        promised = {shard for shards in open_dataset(splits[0].folder).splits.values() for shard in shards}
        if not promised.issuperset(shard for split in splits for shard in split.shards):
            raise JobFailed(f"{splits[0].folder} was overwritten since it was opened ({faults[0]}); start again")
        raise JobFailed(
            f"{splits[0].folder}: {len(faults)} shard(s) are not what {MANIFEST} promises: {'; '.join(faults)}; "
            "copy or convert the data set again"
        )


def _size_fault(split: Split, shard: Shard) -> str | None:
    try:
        found = tf.io.gfile.stat(split.path(shard)).length
    except tf.errors.NotFoundError:
        return f"{shard.file} is missing"
    except tf.errors.OpError as error:
        return f"{shard.file} cannot be read ({error.message})"
    return None if found == shard.bytes else f"{shard.file} has {found} bytes instead of {shard.bytes}"


def _checksum_fault(split: Split, shard: Shard) -> str | None:
    digest = hashlib.sha256()
    try:
        with tf.io.gfile.GFile(split.path(shard), "rb") as file:
            while part := file.read(READ_BYTES):
                digest.update(part)
    except tf.errors.OpError as error:
        return f"{shard.file} cannot be read ({error.message})"
    return None if digest.hexdigest() == shard.sha256 else f"{shard.file} has another SHA-256"


def _read_fault(split: Split, shard: Shard) -> str | None:
    found = 0
    try:
        for records in tf.data.TFRecordDataset(split.path(shard)).batch(1024):
            _parse(records, split.shape)
            found += len(records)
    except tf.errors.OpError:
        return f"{shard.file} is damaged after about {found} examples"
    return None if found == shard.examples else f"{shard.file} has {found} examples instead of {shard.examples}"

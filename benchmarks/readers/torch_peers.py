"""PyTorch's DataLoader with two worker processes: on PNGs, on our shards through the package tfrecord, and on the tar files
of webdataset, which hold raw pixels."""

from pathlib import Path
from typing import Any

import numpy as np
import tfrecord.tools.tfrecord2idx
import torch.utils.data
import webdataset
from PIL import Image
from tfrecord.torch.dataset import MultiTFRecordDataset

from benchmarks.readers.way import Arrays, Data, Epochs, labelled_files, python_way

_WORKERS = 2
_SHUFFLED = 16_384 // _WORKERS  # examples at a time

PACKAGES = ("torch", "pillow", "tfrecord", "webdataset")


class _Pngs(torch.utils.data.Dataset):  # type: ignore[misc] # untyped
    """The images below a folder of classes, as torchvision's ImageFolder finds them."""

    def __init__(self, folder: str) -> None:
        self.files = labelled_files(folder)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        file, label = self.files[index]
        with Image.open(file) as image:
            return torch.from_numpy(np.array(image)), label


def prepare(data: Data) -> None:
    """Writes the index of each shard, and the tar files."""
    shards = Path(data.peers) / "tfindex"
    shards.mkdir()
    for shard in Path(data.records).glob("*.tfrecord-*"):
        tfrecord.tools.tfrecord2idx.create_index(str(shard), str(shards / shard.name))
    tars = Path(data.peers) / "tar"
    tars.mkdir()
    files = labelled_files(data.png)
    for number in range(data.shards):
        # The time of today has a fraction, which needs a second header for each file: reading would take twice as long.
        with webdataset.TarWriter(str(tars / f"{number:05d}.tar"), mtime=0) as writer:
            for index in range(number, len(files), data.shards):
                file, label = files[index]
                with Image.open(file) as image:
                    pixels = np.array(image).tobytes()
                writer.write({"__key__": f"{index:08d}", "pixels": pixels, "cls": label})


def _loaded(dataset: Any, batch: int | None, **options: Any) -> Epochs:
    # Workers that live longer than an epoch; the default starts them again in each.
    loader = torch.utils.data.DataLoader(dataset, batch, num_workers=_WORKERS, persistent_workers=True, **options)
    while True:
        yield iter(loader)


def _pngs(data: Data, _: str, batch: int) -> Epochs:
    return _loaded(_Pngs(data.png), batch, shuffle=True)


def _tfrecord(data: Data, folder: str, batch: int) -> Epochs:
    names = sorted(path.name for path in Path(folder).glob("*.tfrecord-*"))

    def pair(features: dict[str, Any]) -> tuple[torch.Tensor, int]:
        return torch.frombuffer(bytearray(features["image"]), dtype=torch.uint8), int(features["label"][0])

    dataset = MultiTFRecordDataset(
        f"{folder}/{{}}",
        f"{data.peers}/tfindex/{{}}",
        dict.fromkeys(names, 1.0),
        {"image": "byte", "label": "int"},
        shuffle_queue_size=_SHUFFLED,
        transform=pair,
        infinite=False,
    )
    return _loaded(dataset, batch)


def _webdataset(data: Data, _: str, batch: int) -> Epochs:
    def pixels(raw: bytes) -> torch.Tensor:
        return torch.frombuffer(bytearray(raw), dtype=torch.uint8)

    dataset = webdataset.WebDataset(sorted(map(str, Path(data.peers).glob("tar/*.tar"))), shardshuffle=data.shards)
    shuffled = dataset.shuffle(_SHUFFLED, initial=_SHUFFLED).to_tuple("pixels", "cls").map_tuple(pixels, int)
    return _loaded(shuffled.batched(batch), None)


def _arrays(batch: Any, _: Data) -> Arrays:
    images, labels = batch
    return np.asarray(images), np.asarray(labels)


WAYS = [
    python_way("PyTorch DataLoader, PNG", _pngs, _arrays),
    python_way("tfrecord with its index, DataLoader", _tfrecord, _arrays),
    python_way("webdataset, raw pixels", _webdataset, _arrays),
]

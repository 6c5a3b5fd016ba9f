"""How to load a data set, in five lines of code or fewer. Tests run them."""

from schemas.dataset import MANIFEST, Manifest
from schemas.example import layout_of
from schemas.labels import CLASS

FOLDER = "FOLDER"  # stands for the path of the data set, which the page must not show


def examples(manifest: Manifest) -> dict[str, str]:
    """Title -> code that loads the first split in shuffled batches of 32."""
    split = next(iter(manifest.splits))
    fixed = manifest.record_bytes is not None
    return {
        "Keras, with tf.data": _keras(manifest, split),
        "TensorFlow Datasets": _tfds(split),
        "PyTorch": _torch(manifest, split) if fixed else _torch_parsed(manifest, split),
    }


def _keras(manifest: Manifest, split: str) -> str:
    label = "[]" if manifest.label_kind == CLASS else f"[{len(manifest.classes)}]"
    image = f'tf.reshape(tf.io.decode_raw(b["image"], "uint8"), {(-1, *manifest.shape)})'
    return _lines(
        "import json, tensorflow as tf",
        _files(split, f'tf.io.read_file("{FOLDER}/{MANIFEST}").numpy()'),
        f'wanted = {{"image": tf.io.FixedLenFeature([], "string"), "label": tf.io.FixedLenFeature({label}, "int64")}}',
        "read = tf.data.TFRecordDataset(files).shuffle(10_000).batch(32).map(lambda b: tf.io.parse_example(b, wanted))",
        f'{split} = read.map(lambda b: ({image}, b["label"])).prefetch(2)',
    )


def _tfds(split: str) -> str:
    return _lines(
        "import tensorflow_datasets as tfds",
        f'builder = tfds.builder_from_directory("{FOLDER}")',
        f'{split} = builder.as_dataset(split="{split}", as_supervised=True, shuffle_files=True)',
        f"{split} = {split}.shuffle(10_000).batch(32).prefetch(2)",
    )


def _torch(manifest: Manifest, split: str) -> str:
    """The shards are arrays, so NumPy alone reads them."""
    (height, width, channels), classes = manifest.shape, len(manifest.classes)
    at = layout_of(manifest.shape, None if manifest.label_kind == CLASS else classes)
    image = f"records[:, {at.image}:{at.image + height * width * channels}].reshape({(-1, *manifest.shape)})"
    label = f"{at.label}" if manifest.label_kind == CLASS else f"{at.label}:{at.label + classes}"
    return _lines(
        "import json, pathlib, numpy as np, torch",
        _files(split, f'pathlib.Path("{FOLDER}/{MANIFEST}").read_text()'),
        "records = torch.from_numpy(np.concatenate([np.fromfile(file, np.uint8) for file in files])"
        f".reshape(-1, {at.record_bytes}))",
        f"pairs = torch.utils.data.TensorDataset({image}.permute(0, 3, 1, 2), records[:, {label}].long())",
        f"{split} = torch.utils.data.DataLoader(pairs, batch_size=32, shuffle=True)",
    )


def _torch_parsed(manifest: Manifest, split: str) -> str:
    """Records of different lengths are parsed by radrecords."""
    read = f"decode_example(record, {manifest.shape})"
    records = "read_records(io.BytesIO(pathlib.Path(file).read_bytes()))"
    return _lines(
        "import io, json, pathlib, torch; from schemas.example import decode_example, read_records",
        _files(split, f'pathlib.Path("{FOLDER}/{MANIFEST}").read_text()'),
        f"found = [{read} for file in files for record in {records}]",
        "pairs = [(torch.tensor(one.image).permute(2, 0, 1), torch.tensor(one.label)) for one in found]",
        f"{split} = torch.utils.data.DataLoader(pairs, batch_size=32, shuffle=True)",
    )


def _files(split: str, text: str) -> str:
    return f"""files = [f"{FOLDER}/{{s['file']}}" for s in json.loads({text})["splits"]["{split}"]["shards"]]"""


def _lines(*lines: str) -> str:
    return "".join(f"{line}\n" for line in lines)

"""The files that let other tools read a data set without radrecords.

- features.json, label.labels.txt, dataset_info.json: TensorFlow Datasets (`tfds.builder_from_directory(folder)`), as
  written by tfds.features.FeaturesDict.save_config and tfds.core.DatasetInfo (proto/{feature,dataset_info}.proto there).
- schema.pbtxt: TensorFlow Metadata's Schema (metadata/proto/v0/schema.proto), which TFDV and TFX read.
"""

import json
from typing import Any

from schemas.dataset import Manifest
from schemas.example import IMAGE, LABEL, SOURCE_URI, TEXTS
from schemas.labels import CLASS, MULTI_HOT_UNCERTAIN, UNCERTAIN
from schemas.shard_name import FILE_FORMAT, tfds_template

_TFDS_FEATURES = "tensorflow_datasets.core.features"


def interchange_files(manifest: Manifest, prefix: str) -> dict[str, str]:
    """File name -> content, for shards whose names begin with `prefix`"""
    return {
        "features.json": _features(manifest),
        "label.labels.txt": "".join(f"{name}\n" for name in manifest.classes),
        "dataset_info.json": _dataset_info(manifest, prefix),
        "schema.pbtxt": _schema(manifest),
    }


def _features(manifest: Manifest) -> str:
    def feature(kind: str, **content: Any) -> dict[str, Any]:
        return {"pythonClassName": f"{_TFDS_FEATURES}.{kind}", **content}

    text = feature("text_feature.Text", text={})
    shape = {"dimensions": [str(side) for side in manifest.shape]}
    features = {
        **dict.fromkeys(TEXTS, text),
        IMAGE: feature("tensor_feature.Tensor", tensor={"dtype": "uint8", "encoding": "bytes", "shape": shape}),
        LABEL: feature("class_label_feature.ClassLabel", classLabel={"numClasses": str(len(manifest.classes))}),
    }
    if manifest.settings.get("include_source_uri"):
        features[SOURCE_URI] = text
    if manifest.label_kind != CLASS:  # TensorFlow Datasets has no feature of named zeros and ones
        vector = {"dtype": "int64", "encoding": "none", "shape": {"dimensions": [str(len(manifest.classes))]}}
        features[LABEL] = feature("tensor_feature.Tensor", tensor=vector, description=_one_of_each(manifest))
    content = feature("features_dict.FeaturesDict", featuresDict={"features": features})
    return json.dumps(content, indent=4, sort_keys=True) + "\n"


def _dataset_info(manifest: Manifest, prefix: str) -> str:
    splits = [
        {
            "filepathTemplate": tfds_template(prefix),
            "name": split,
            "numBytes": str(sum(shard.bytes for shard in shards)),
            "shardLengths": [str(shard.examples) for shard in shards],
        }
        for split, shards in manifest.splits.items()
    ]
    content = {
        "description": "Radiographs as tensors with labels, written by radrecords; see manifest.json.",
        "fileFormat": FILE_FORMAT,
        "name": manifest.name,
        "splits": splits,
        "supervisedKeys": {
            "tuple": {"items": [{"featureKey": IMAGE}, {"featureKey": LABEL}]},
        },
        "version": manifest.version,
    }
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def _schema(manifest: Manifest) -> str:
    def feature(name: str, kind: str, domain: str = "", size: int = 1) -> str:
        presence = "presence { min_fraction: 1.0 min_count: 1 }"
        return f'feature {{ name: "{name}" type: {kind} {presence} shape {{ dim {{ size: {size} }} }} {domain}}}\n'

    domain = f'int_domain {{ name: "{LABEL}" min: 0 max: {len(manifest.classes) - 1} is_categorical: true }} '
    label = feature(LABEL, "INT", domain)
    if manifest.label_kind != CLASS:
        most = UNCERTAIN if manifest.label_kind == MULTI_HOT_UNCERTAIN else 1
        comment = json.dumps(_one_of_each(manifest), ensure_ascii=False)  # quoted as the text format quotes
        domain = f'int_domain {{ name: "{LABEL}" min: 0 max: {most} }} annotation {{ comment: {comment} }} '
        label = feature(LABEL, "INT", domain, len(manifest.classes))
    uri = (feature(SOURCE_URI, "BYTES"),) if manifest.settings.get("include_source_uri") else ()
    texts = (feature(name, "BYTES") for name in TEXTS)
    return "".join((*texts, feature(IMAGE, "BYTES"), label, *uri))


def _one_of_each(manifest: Manifest) -> str:
    values = "0, 1 or 2 (uncertain)" if manifest.label_kind == MULTI_HOT_UNCERTAIN else "0 or 1"
    return f"{values} for each of: {', '.join(manifest.classes)}"

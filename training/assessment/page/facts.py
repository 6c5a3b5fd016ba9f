"""The data set and the run in tables."""

from collections.abc import Iterator, Mapping
from typing import Any

from training.assessment.page.content import Content
from training.assessment.page.tables import Cell, Figure, Table
from training.models.recipes import LAST_EPOCH

# Whom the images of the public data sets show, by the preset that converts them, as the papers of the sets say.
POPULATIONS = {
    "kermany": (
        "The images of the Kermany set show children of one to five years, seen at one hospital in Guangzhou. Two "
        "physicians graded each, and a third one the test images (Kermany et al. 2018, Cell 172:1122)."
    ),
    "nih14": (
        "The images of ChestX-ray14 come from one research hospital, the NIH Clinical Center. Its labels were mined from "
        "reports by a program, so some of them are wrong (Wang et al. 2017, CVPR)."
    ),
    "rsna": (
        "The images of the RSNA pneumonia set are part of ChestX-ray14, from the NIH Clinical Center. Radiologists labelled "
        "them again (Shih et al. 2019, Radiol Artif Intell 1:e180041)."
    ),
    "chexpert": (
        "The images of CheXpert come from Stanford Hospital, from 2002 to 2017. A program took the labels of the training "
        "images from reports (Irvin et al. 2019, AAAI)."
    ),
    "mimic-cxr": (
        "The images of MIMIC-CXR come from Beth Israel Deaconess Medical Center in Boston, from 2011 to 2016, of patients "
        "of its emergency department. A program took the labels from reports (Johnson et al. 2019, Sci Data 6:317)."
    ),
}
POPULATIONS["rsna3"] = POPULATIONS["rsna"]


def examples(content: Content) -> Table:
    """The examples by class and split, and the share of the class in the split."""
    manifest = content.manifest
    totals = [manifest.examples(split) for split in manifest.splits]
    rows: list[list[Cell]] = [["all images", *(f"{total:,}" for total in totals)]]
    counts = [manifest.label_counts(split) for split in manifest.splits]
    for name, of_class in zip(manifest.classes, zip(*counts, strict=True), strict=True):
        shares = (f"{count / total:.1%}" if total else "" for count, total in zip(of_class, totals, strict=True))
        rows.append([name, *(Figure(f"{count:,}", part) for count, part in zip(of_class, shares, strict=True))])
    return Table(["", *manifest.splits], rows)


def inputs(content: Content) -> str:
    """What became of the files of the data set."""
    counts = content.manifest.inputs
    parts = [f"{counts['listed']:,} files were read and {counts['written']:,} written"]
    parts += [f"{counts[name]:,} {name}" for name in ("quarantined", "duplicates", "skipped") if counts[name]]
    return ", ".join(parts) + "."


def leakage(content: Content) -> Table | None:
    """What the data set's leakage.json counts; None if there is none."""
    found = content.leakage
    if found is None:
        return None
    near = found.get("near_duplicates_across_splits", {})
    groups = found.get("groups_in_several_splits", {})
    return Table(
        ["", "found"],
        [
            ["Patients (groups) in several splits", f"{groups.get('total', 0):,}"],
            ["Identical images in several splits", f"{found.get('identical_images_in_several_splits', 0):,}"],
            ["Identical images with several labels", f"{found.get('identical_images_with_several_labels', 0):,}"],
            ["Pairs of near-duplicates across splits", f"{near.get('total', 0):,}"],
        ],
    )


def identity(content: Content) -> Table:
    """What identifies the run and its data set."""
    manifest, run = content.manifest, content.run
    trained = run.data
    rows = [
        ["trained on", f"{trained['name']} {trained['version']}, revision {trained['revision']}"],
        [
            "evaluated on",
            f"{manifest.name} {manifest.version}, revision {manifest.revision}, split {content.metrics['split']}",
        ],
        *([f"SHA-256 of {name}", digest] for name, digest in content.digests.items()),
        *([name, version] for name, version in run.versions.items()),
    ]
    return Table(["", ""], rows, words=True)


def settings(content: Content) -> Table:
    """How the run was made: the recipe, the preprocessing and the machine, as config.json has them."""
    run = content.run
    image = run.image
    size = f"{image.image_size} x {image.image_size} x {image.channels}, {image.resize_mode}"
    recipe = run.recipe.to_json()
    optimiser = "AdamW" if run.recipe.weight_decay else "Adam"
    parts = {
        "recipe": recipe.pop("name"),
        **recipe,
        "optimiser": optimiser,
        "images": size,
        "seed": run.seed,
        **run.compute,
    }
    return Table(["", ""], [[name.replace("_", " "), text] for name, text in _texts(parts)], words=True)


def _texts(parts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in parts.items():
        if isinstance(value, bool):
            yield name, "on" if value else "off"
        elif isinstance(value, Mapping):
            yield name, ", ".join(f"{option} {number:g}" for option, number in value.items())
        else:
            yield name, f"{value:g}" if isinstance(value, float) else str(value)


def population(content: Content) -> str:
    """Whom the images of the data set show, if its preset tells; else ""."""
    preset = str(content.manifest.settings.get("preset") or "")
    known = POPULATIONS.get(preset, "")
    return f"The data set was converted with preset {preset}. {known}" if known else ""


def chosen(content: Content) -> str:
    """Which epoch the weights are from."""
    best = content.run.best or {}
    why = "the last one" if content.run.recipe.keep == LAST_EPOCH else "the best by AUC on the validation split"
    return (
        f"The weights are from epoch {best['epoch']:.0f}, {why}. On the validation split, their AUC is "
        f"{best['val_auc']:.3f} and their accuracy {best['val_accuracy']:.1%}."
    )

"""dataset.html: what a data set holds and how to load it, for the people who train with it.

One file without scripts, which loads nothing. It holds no path, no name of a patient and nothing that an image says
about itself; images are named by id.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from beam_jobs.elements import ShardResult
from beam_jobs.leakage.reported_pairs import ACTED_ON, LEAKAGE
from beam_jobs.publish.page.histograms import files_read, gray_levels
from beam_jobs.publish.page.layout import code, document, heading, paragraph, share, table
from beam_jobs.publish.page.loading import FOLDER, examples
from beam_jobs.write.image_counts import comment, empty_table, unpacked
from beam_jobs.write.reuse import QUARANTINE
from schemas.dataset import MANIFEST, Manifest
from schemas.labels import CLASS, MULTI_HOT_UNCERTAIN

_SHOWN = 5  # ids for each reason, pairs and groups
_FOLDER_MARKER = "folder_marker"  # not a file, and only in buckets: the page is the same for a copy of them on a disk
_LINKS = (MANIFEST, "preview.png", LEAKAGE, QUARANTINE)


def dataset_page(manifest: Manifest, results: Sequence[ShardResult], leaks: Mapping[str, Any]) -> str:
    """The page, in HTML. `leaks`: the content of leakage.json."""
    tables = {split: empty_table(len(manifest.classes)) for split in manifest.splits}
    for result in results:
        tables[result.split] += unpacked(result.counts, len(manifest.classes))
    revision = f", revision {manifest.revision}" if manifest.revision > 1 else ""
    parts = (
        *_summary(manifest),
        *_images(manifest),
        *_inputs(manifest),
        *gray_levels(manifest, tables),
        *files_read(manifest, tables),
        *_quarantine(manifest, results),
        *_leaks(leaks),
        *_loading(manifest),
        *_settings(manifest),
        comment(results),
    )
    return document(f"{manifest.name} {manifest.version}{revision}", parts)


def _summary(manifest: Manifest) -> Iterator[str]:
    height, width, channels = manifest.shape
    kinds = {CLASS: "Each has one class.", MULTI_HOT_UNCERTAIN: "Each has any number of findings; 2 means uncertain."}
    kind = kinds.get(manifest.label_kind, "Each has any number of findings.")
    yield paragraph(
        f"{manifest.inputs['written']:,} images of {height} x {width} x {channels} (height, width, channels; uint8) "
        f"in {len(manifest.classes)} classes. {kind} Not a medical device: for research only."
    )
    links = " &middot; ".join(f'<a href="{name}">{name}</a>' for name in _LINKS)
    yield f"<p>Beside this page: {links}</p>"


def _images(manifest: Manifest) -> Iterator[str]:
    splits = list(manifest.splits)
    counts = [manifest.label_counts(split) for split in splits]
    totals = [manifest.examples(split) for split in splits]

    def row(name: str, numbers: Sequence[int], wholes: Sequence[int]) -> list[str]:
        every = zip((*numbers, sum(numbers)), (*wholes, sum(wholes)), strict=True)
        return [name, *(text for number, whole in every for text in (f"{number:,}", share(number, whole)))]

    yield heading("Images by split and class")
    rows = [row(name, each, totals) for name, *each in zip(manifest.classes, *counts, strict=True)]
    heads = [text for split in (*splits, "all") for text in (split, "")]
    yield table(["", *heads], [*rows, row("all images", totals, totals)])
    if manifest.label_kind != CLASS:
        yield paragraph("An image counts for each of its findings, so the classes need not add up to all images.")
    sizes = {split: sum(shard.bytes for shard in manifest.shards(split)) for split in splits}
    lines = ([split, f"{len(manifest.shards(split)):,}", f"{sizes[split]:,}"] for split in splits)
    yield table(["", "shards", "bytes"], lines)


def _inputs(manifest: Manifest) -> Iterator[str]:
    skipped = {reason: count for reason, count in manifest.skipped.items() if reason != _FOLDER_MARKER}
    inputs = {**manifest.inputs, "skipped": sum(skipped.values())}
    listed = sum(inputs[outcome] for outcome in ("written", "quarantined", "duplicates", "skipped"))
    yield heading("What became of the inputs")
    rows = [
        ("written", "records in this data set", inputs["written"]),
        ("quarantined", "could not be used; see below", inputs["quarantined"]),
        ("duplicates", "byte-identical to an image that was written", inputs["duplicates"]),
        *(("skipped", reason, count) for reason, count in sorted(skipped.items())),
        ("listed", "the sum", listed),
    ]
    yield table(["outcome", "", "inputs"], ([*texts, f"{count:,}"] for *texts, count in rows), texts=2)
    if manifest.notes:
        yield paragraph("Noted on inputs, whatever became of them:")
        yield table(["note", "inputs"], ([note, f"{count:,}"] for note, count in sorted(manifest.notes.items())))


def _quarantine(manifest: Manifest, results: Sequence[ShardResult]) -> Iterator[str]:
    ids: dict[str, list[str]] = {reason: [] for reason in sorted(manifest.quarantined)}
    for result in results:
        for entry in result.quarantined:
            ids[entry.reason].append(entry.id)
    yield heading("Quarantine")
    if not ids:
        yield paragraph("Every image could be used.")
        return
    yield paragraph(
        f"Images that could not be used, with the first {_SHOWN} ids for each reason, which are those that their records "
        f"would have had. {QUARANTINE} lists all by name. Replace the files, and convert with --retry_quarantine."
    )
    rows = ((reason, ", ".join(sorted(found)[:_SHOWN]), f"{len(found):,}") for reason, found in ids.items())
    yield table(("reason", "ids", "images"), rows, texts=2)


def _leaks(leaks: Mapping[str, Any]) -> Iterator[str]:
    groups, near = leaks["groups_in_several_splits"], leaks["near_duplicates_across_splits"]
    counts = [
        ("groups (patients) in several splits", groups["total"]),
        ("byte-identical images in several splits", leaks["identical_images_in_several_splits"]),
        ("byte-identical images with several labels", leaks["identical_images_with_several_labels"]),
        ("pairs of near-duplicates across splits", near["total"]),
        ("comparisons left out of the search", near["not_compared"]),
    ]
    if ACTED_ON in leaks:
        counts.append(("pairs that --near_duplicates_of kept together or left out", len(leaks[ACTED_ON])))
    yield heading("Leaks between splits")
    yield table(("", "number"), ((name, f"{count:,}") for name, count in counts))
    yield paragraph(
        "Byte-identical images are kept once. Near-duplicates are copies of one exposure: saved again, resized, brightened "
        f"or cropped a little. {LEAKAGE} lists them, and --near_duplicates_of makes a version in which they do not leak."
    )
    if near["pairs"]:
        pairs = near["pairs"][:_SHOWN]
        rows = ((*pair["ids"], " and ".join(pair["splits"]), f"{pair['distance']}") for pair in pairs)
        yield heading(f"The nearest of them (up to {_SHOWN})", 3)
        yield table(("id", "id", "splits", "signs that differ, of 256"), rows, texts=3)


def _loading(manifest: Manifest) -> Iterator[str]:
    label = "A label is the index of a class:" if manifest.label_kind == CLASS else "A label has a value for each of:"
    yield heading("How to load it")
    yield paragraph(
        f"Put the path of this folder in place of {FOLDER}. Pixels are uint8, from 0 to 255: scale them in the model. "
        f"{label} {', '.join(manifest.classes)}."
    )
    for title, lines in examples(manifest).items():
        yield heading(title, 3)
        yield code(lines)
    yield heading("radrecords", 3)
    yield code(f"python -m training.train --data {FOLDER} --recipe model3 --output RUN\n")


def _settings(manifest: Manifest) -> Iterator[str]:
    settings = {**asdict(manifest.image), **manifest.settings}
    if settings.get("group_pattern"):  # it may quote the names of folders
        settings["group_pattern"] = f"given, see {MANIFEST}"
    settings["classes"] = ", ".join(manifest.classes)
    yield heading("Settings")
    yield paragraph(
        f"With these settings and the same inputs, a conversion writes the same bytes. {MANIFEST} has them too."
    )
    yield table(("setting", "value"), ((_words(name), _value(value)) for name, value in settings.items()), texts=2)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) or "-"

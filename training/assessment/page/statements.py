"""What an evaluation says in words: for whom the model is, for whom it is not, and what its figures mean. All texts are
plain, without HTML or Markdown."""

from collections.abc import Iterator

from training.assessment.page.content import Content
from training.assessment.page.facts import population
from training.assessment.page.tables import interval_of, score, share
from training.models.recipes import LAST_EPOCH
from training.task import BINARY, MULTICLASS, MULTILABEL, Task

RESEARCH_ONLY = "For research only. This is not a medical device: do not base the care of any patient on it."
SHARING = (
    "The report shows images of the data set, those that the model got wrong. Share it as the data set may be shared."
)
SUBGROUPS = "A subgroup of one class has the areas against all images of the other class."
MAPS = (
    "The most confident errors come first. Each image is followed by a map of what speaks for the wrong answer: one of 64 "
    "patches at a time is hidden by the mean gray, and the redder a patch, the less confident the model is without it. A "
    "map shows what the model reacts to, not where a finding is."
)
NO_LEAKAGE = (
    "The data set has no leakage.json that could be read, so it is unknown whether its splits share patients or images."
)
FEW = 100  # examples of a class, below which the page says that they are few
NAMED = 4  # of such classes


def titles_of(task: Task) -> list[str]:
    """The kinds of mistakes: see mistakes.mistaken."""
    if task.kind == BINARY:
        negative, positive = task.classes
        return [
            f"False positives: {negative} predicted as {positive}",
            f"False negatives: {positive} predicted as {negative}",
        ]
    if task.kind == MULTICLASS:
        return [f"{name} predicted as another class" for name in task.classes]
    return [f"{name}: {kind}" for name in task.classes for kind in ("false positives", "false negatives")]


def made_of(content: Content) -> str:
    """What was trained on what."""
    run = content.run
    examples = run.data["examples"]
    data = f"{run.data['name']} {run.data['version']}"
    side = run.image.image_size
    trained = f"{examples.get('train', 0):,} images of {data}, at {side} x {side} pixels"
    what = f"The model ({run.recipe.name}) was trained on {trained}."
    chosen = "its operating point" if run.recipe.keep == LAST_EPOCH else "its epoch and its operating point"
    return what + f" {examples.get('validation', 0):,} others served to choose {chosen}."


def whence(content: Content) -> str:
    """Which images the figures are of."""
    metrics = content.metrics
    data, split = metrics["data"], metrics["split"]
    what = f"The figures are of {metrics['examples']:,} images of {data['name']} {data['version']}, split {split}"
    if content.is_flattered:
        return f"{what}. They were used in training."
    if content.is_own_data:
        return f"{what}. They had no part in training."
    other = "another version of this data set" if data["name"] == content.run.data["name"] else "another data set"
    return f"{what}. The model was trained on {other}."


def found(content: Content) -> str:
    """The main result in a sentence."""
    metrics, task = content.metrics, content.run.task
    if task.kind == BINARY:
        negative, positive = task.classes
        (tn, fp), (fn, tp) = metrics["confusion_matrix"]
        finds = f"It finds {tp:,} of {tp + fn:,} images of {positive}{_percent(tp, tp + fn)}."
        return f"{finds} Of {tn + fp:,} images of {negative}, it takes {fp:,} for {positive}{_percent(fp, tn + fp)}."
    if task.kind == MULTICLASS:
        hits, total = round(metrics["accuracy"] * metrics["examples"]), metrics["examples"]
        return f"It names the right class for {hits:,} of {total:,} images{_percent(hits, total)}."
    macro = metrics["macro"]
    if not macro:
        return "The split has positive and negative images of no finding, so no area is defined."
    area = score(macro["auroc"], interval_of(macro, "auroc"))
    return f"Over {macro['classes']} findings, the mean area under the ROC curve is {area.value} ({area.interval})."


def _percent(part: int, total: int) -> str:
    return f" ({share(part / total).value})" if total else ""


def intended_use(content: Content) -> list[str]:
    """What the model is for."""
    names = ", ".join(content.run.classes)
    ask = {
        BINARY: f"tells {content.run.classes[0]} from {content.run.classes[-1]}",
        MULTICLASS: f"tells {names} apart",
        MULTILABEL: f"looks for {names}",
    }[content.run.task.kind]
    return [
        f"It {ask} in radiographs like those of {content.run.data['name']}.",
        "It serves to compare methods, to teach, and to check a data set.",
    ]


def limits(content: Content) -> list[str]:
    """Who should not use the model, and for what."""
    return list(_limits(content))


def _limits(content: Content) -> Iterator[str]:
    run = content.run
    answers = "one of these answers" if run.task.kind != MULTILABEL else "a probability for each of these findings"
    yield (
        f"It knows only {', '.join(run.classes)}, and gives {answers} for every image: also for other diseases, other "
        "views, and pictures that are no radiographs."
    )
    if content.is_own_data and (known := population(content)):
        yield f"{known} Do not use the model for other patients."
    yield (
        "On images of other hospitals, machines or patients it can be much worse than here. Evaluate it on images of your "
        "own first."
    )
    side = run.image.image_size
    if side < 224:
        yield f"It sees every image at {side} x {side} pixels, where small findings disappear."


def warnings(content: Content) -> list[str]:
    """What makes the figures better than they should be, or uncertain."""
    return list(_warnings(content))


def _warnings(content: Content) -> Iterator[str]:
    metrics, manifest = content.metrics, content.manifest
    yield from (f"{note[:1].upper()}{note[1:]}." for note in metrics["notes"])
    if content.is_own_data and leaks(content):
        yield "Images of different splits are alike, or of one patient (see Data set): the figures flatter the model."
    counts = zip(manifest.label_counts(metrics["split"]), manifest.classes, strict=True)
    if few := sorted((count, name) for count, name in counts if count < FEW):
        named = ", ".join(f"{count:,} of {name}" for count, name in few[:NAMED])
        more = f", and {len(few) - NAMED} others" if len(few) > NAMED else ""
        yield f"The split has few images of some classes ({named}{more}): mind the intervals."


def leaks(content: Content) -> int:
    """The groups that are in several splits and the pairs of near-duplicates across splits, as far as known."""
    leakage = content.leakage or {}
    return sum(
        int(leakage.get(kind, {}).get("total", 0))
        for kind in ("groups_in_several_splits", "near_duplicates_across_splits")
    )


def explained(content: Content) -> list[str]:
    """How to read the figures."""
    return list(_explained(content))


def _explained(content: Content) -> Iterator[str]:
    metrics, task = content.metrics, content.run.task
    source = metrics["threshold"]["source"]
    if task.kind == BINARY:
        positive = task.classes[1]
        prevalence = share(sum(metrics["confusion_matrix"][1]) / metrics["examples"]).value
        yield f"Positive is {positive}. The threshold {source}."
        yield f"{prevalence} of these images are {positive}. Where it is rarer, a positive answer is right less often."
    else:
        most = "The predicted class is the most probable one. " if task.kind == MULTICLASS else ""
        yield (
            f"{most}Each class is compared with all others, at a threshold that {source}. Macro is the mean over the "
            "classes; micro takes every image and class as one example."
        )
    if "majority_class_accuracy" in metrics:
        majority = share(metrics["majority_class_accuracy"]).value
        yield f"Always predicting the most frequent class would have an accuracy of {majority}."
    images = f"{metrics['examples']:,} images of {metrics['patients']:,} patients"
    yield f"Small numbers are 95% intervals. They keep the images of a patient together ({images})."


def calibration(content: Content) -> str:
    """What the figures of the calibration mean."""
    claim = {
        BINARY: f"images that get a probability of 0.8, 80% should be {content.run.classes[-1]}",
        MULTICLASS: "answers that get a probability of 0.8, 80% should be right",
        MULTILABEL: "findings that get a probability of 0.8, 80% should be there",
    }[content.run.task.kind]
    temperature = content.metrics["calibration"]["temperature"]
    after = (
        f" Scaling divides the logits by {temperature:.2f}, fitted on the validation split, and changes no decision."
    )
    return (
        f"Of the {claim}: dots on the dashed line are calibrated. ECE is the mean distance from it; the Brier score is the "
        f"mean squared error of the probability. Less is better.{after if temperature != 1.0 else ''}"
    )


def curves(task: Task) -> str:
    """What the curves show."""
    points = (
        "The dot is the operating point, the square the threshold 0.5."
        if task.kind == BINARY
        else "The dots are the operating points."
    )
    return f"{points} The dashed line is what guessing would reach."


def recommendations() -> list[str]:
    """What to do before the model is used for anything."""
    return [
        "Evaluate it on images of your own, with training.evaluate --data, before you draw any conclusion for them.",
        "Quote a figure with its interval, its split and the digest of the weights.",
    ]


def ethics() -> list[str]:
    """Ethical considerations."""
    return [
        SHARING,
        "The model learned from labels that people or programs gave, and repeats their errors and their bias.",
        "Whether it is equally good for all ages, sexes and machines is unknown, unless there are figures for subgroups.",
    ]

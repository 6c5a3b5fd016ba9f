"""model_card.md: the model in the form of Mitchell et al. 2019, Model Cards for Model Reporting, FAT*, section 4."""

from collections.abc import Iterator, Sequence

from training.assessment.page import facts, figures, statements
from training.assessment.page.content import Content
from training.assessment.page.tables import markdown, plain
from training.task import BINARY, MULTICLASS, MULTILABEL

_OUTPUT = {
    BINARY: "the probability of the second class",
    MULTICLASS: "the probability of each class",
    MULTILABEL: "the probability of each finding",
}


def model_card(content: Content) -> str:
    """The card, in Markdown. Equal contents give equal bytes."""
    parts = [f"# {plain(content.title)}\n"]
    for title, lines in _sections(content):
        parts += [f"## {title}\n", *(line if line.endswith("\n") else f"{line}\n" for line in lines)]
    return "\n".join(parts)


def _sections(content: Content) -> Iterator[tuple[str, list[str]]]:
    yield "Model details", list(_details(content))
    yield (
        "Intended use",
        [
            *_texts(statements.intended_use(content)),
            "Out of scope:",
            _list([statements.RESEARCH_ONLY, *statements.limits(content)]),
        ],
    )
    yield "Factors", list(_factors(content))
    yield "Metrics", _texts(statements.explained(content))
    yield "Evaluation data", [plain(statements.whence(content)), markdown(facts.examples(content))]
    yield "Training data", list(_training(content))
    yield "Quantitative analyses", list(_analyses(content))
    yield "Ethical considerations", [_list(statements.ethics())]
    yield "Caveats and recommendations", [_list([*statements.warnings(content), *statements.recommendations()])]


def _details(content: Content) -> Iterator[str]:
    run = content.run
    yield plain(
        f"A convolutional network ({run.recipe.model}) for the classes {', '.join(run.classes)}. It gives "
        f"{_OUTPUT[run.task.kind]}. {facts.chosen(content)}"
    )
    yield markdown(facts.identity(content))
    yield markdown(facts.settings(content))


def _factors(content: Content) -> Iterator[str]:
    found = content.metrics.get("subgroups")
    yield (
        f"The figures are also given by {plain(', '.join(found))}."
        if found
        else "No subgroups were evaluated: a data set's records hold neither age nor sex nor the machine."
    )


def _training(content: Content) -> Iterator[str]:
    yield plain(statements.made_of(content))
    if content.is_own_data:
        if known := facts.population(content):
            yield plain(known)
        yield plain(facts.inputs(content))
        leakage = facts.leakage(content)
        yield markdown(leakage) if leakage else plain(statements.NO_LEAKAGE)


def _analyses(content: Content) -> Iterator[str]:
    yield plain(statements.found(content))
    for title, tables in figures.tables(content):
        yield f"### {title}"
        yield from map(markdown, tables)


def _texts(lines: Sequence[str]) -> list[str]:
    return [plain(line) for line in lines]


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {plain(line)}" for line in lines)

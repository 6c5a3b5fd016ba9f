"""Joins the tables of a public set that has a row for each study with those that have a row for each image of a study."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from beam_jobs.discover.published_tables import ROWS, Named
from beam_jobs.discover.tables import Row
from beam_jobs.passing.blocks import Block, blocks
from beam_jobs.passing.tally import Counted, problem, skipped

_SHOWN = 5  # lines that a problem names


def join_studies(found: Iterable[Block[Named]]) -> Iterator[Block[Named] | Counted]:
    """The rows of a partition, named by study -> for each image one row, named by image, with all that they say."""
    by_study: defaultdict[str, list[Row]] = defaultdict(list)
    for named in itertools.chain.from_iterable(found):
        by_study[named.name].append(named.value)
    rows = []
    reasons: Counter[str] = Counter()
    for study, of_study in by_study.items():
        for outcome in images_of(study, sorted(of_study)):
            if isinstance(outcome, Row):
                rows.append(Named(outcome.image, ROWS, outcome))
            elif isinstance(outcome, str):
                reasons[outcome] += 1
            else:
                yield outcome
    yield from blocks(rows)
    yield from skipped(reasons)


def images_of(study: str, rows: Sequence[Row]) -> Iterator[Row | str | Counted]:
    """A Row for each image of a study. The table that assigns the splits says which images there are. Yields also the
    reason why a study is skipped, and problems."""
    of_study = [row for row in rows if not row.image]
    by_image: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.image:
            by_image[row.image].append(row)
    if differ(of_study):
        yield disagreement(study, of_study)
    elif not by_image:
        yield "study_without_image"
    else:
        for image, of_image in by_image.items():
            if any(row.split for row in of_image):
                yield together([*of_study, *of_image]) or disagreement(image, [*of_study, *of_image])


def together(rows: Sequence[Row]) -> Row | None:
    """One row with all that several say of an image; None if they contradict each other."""
    label, split, group, view = (
        {getattr(row, name) for row in rows} - {""} for name in ("label", "split", "group", "view")
    )
    if any(len(values) > 1 for values in (label, split, group, view)):
        return None
    listed = next(row for row in rows if row.image and row.split)
    return listed._replace(label="".join(label), group="".join(group), view="".join(view))


def differ(rows: Iterable[Row]) -> bool:
    """Whether the rows say different things of what they name."""
    return len({(row.label, row.split, row.group, row.view) for row in rows}) > 1


def _table(row: Row) -> str:
    return row.table


def disagreement(name: str, rows: Sequence[Row]) -> Counted:
    """The problem that rows disagree about `name`, without what they say."""
    places = [
        f"{table or 'manifest'} line{'s'[: len(lines) - 1]} {', '.join(lines)}"
        for table, of_table in itertools.groupby(sorted(rows[:_SHOWN], key=_table), _table)
        for lines in [[str(row.line) for row in of_table]]
    ]
    return problem(f"{' and '.join(places)} disagree about {name!r}; keep the right one")

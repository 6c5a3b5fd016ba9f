"""report.html: one page about an evaluation, for people who do not program. It needs no other file, no network and no
script."""

import re
from collections.abc import Iterator, Sequence
from html import escape

from training.assessment.page import facts, figures, statements
from training.assessment.page.content import Content, Shown
from training.assessment.page.style import STYLE
from training.assessment.page.tables import Figure, html
from training.task import BINARY

# The browser loads nothing but what is in the page.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
SMALL = 128  # pixels: smaller images are shown with their pixels as squares
Section = tuple[str, list[str]]


def report(content: Content) -> str:
    """The page. Equal contents give equal bytes."""
    sections = [(title, [part for part in parts if part]) for title, parts in _sections(content)]
    links = "".join(f'<a href="#{_anchor(title)}">{escape(title)}</a>' for title, _ in sections)
    body = "\n".join(
        f'<section id="{_anchor(title)}">\n<h2>{escape(title)}</h2>\n' + "\n".join(parts) + "\n</section>"
        for title, parts in sections
    )
    title = escape(content.title)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n"
        + "\n".join(_opening(content))
        + f"\n<nav>{links}</nav>\n</header>\n<main>\n{body}\n</main>\n"
        "<footer class=note>Made by radrecords.</footer>\n</body>\n</html>\n"
    )


def _opening(content: Content) -> Iterator[str]:
    yield f"<p class=warning><strong>{escape(statements.RESEARCH_ONLY)}</strong></p>"
    yield _paragraph(f"{statements.made_of(content)} {statements.whence(content)}")
    yield _paragraph(statements.found(content), "lead")
    keys = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{_key(figure)}</dd></div>" for name, figure in figures.key_figures(content)
    )
    yield f"<dl class=keys>{keys}</dl>"
    yield from (_paragraph(line, "warning") for line in statements.warnings(content))


def _key(figure: Figure) -> str:
    interval = f"<span class=ci>{escape(figure.interval)}</span>" if figure.interval else ""
    return escape(figure.value) + interval


def _sections(content: Content) -> Iterator[Section]:
    yield "Who should not use it", _list(statements.limits(content))
    yield "What it is for", _list(statements.intended_use(content))
    for title, tables in figures.tables(content):
        extra = {
            "Figures": [_paragraph(line, "note") for line in statements.explained(content)],
            "Calibration": [_paragraph(statements.calibration(content), "note"), _charts(content, "before", "after")],
            "Subgroups": [_paragraph(statements.SUBGROUPS, "note")] if content.run.task.kind == BINARY else [],
        }.get(title, [])
        yield title, [f"<div class=tables>{''.join(map(html, tables))}</div>", *extra]
        if title == "Figures":
            yield (
                "Curves",
                [_charts(content, "roc", "precision_recall"), _paragraph(statements.curves(content.run.task), "note")],
            )
    yield "Most confident errors", list(_errors(content))
    yield "Data set", list(_data(content))
    yield "Training", [_charts(content, "loss", "accuracy", "auc"), _paragraph(facts.chosen(content), "note")]
    yield "Identity", [html(facts.identity(content)), "<h3>Settings</h3>", html(facts.settings(content))]


def _errors(content: Content) -> Iterator[str]:
    titles = statements.titles_of(content.run.task)
    yield _paragraph(statements.SHARING, "note")
    if any(shown.map for kind in content.mistakes for shown in kind):
        yield _paragraph(statements.MAPS, "note")
    for title, mistakes in zip(titles, content.mistakes, strict=True):
        yield f"<h3>{escape(title)}</h3>"
        small = content.run.image.image_size < SMALL
        yield (
            f"<div class=pictures>{''.join(_error(each, small) for each in mistakes)}</div>"
            if mistakes
            else "<p>None.</p>"
        )


def _error(shown: Shown, small: bool) -> str:
    kind = " class=small" if small else ""
    pictures = f'<img{kind} src="{shown.picture}" alt="image {escape(shown.id)}">'
    hidden = ""
    if shown.map:
        pictures += f'<img{kind} src="{shown.map}" alt="the parts of it that count">'
        hidden = f", and {shown.hidden:.3f} without the strongest patch"
    predicted = f"{escape(shown.predicted)}, " if shown.predicted else ""
    said = f"{predicted}p = {shown.probability:.3f}{hidden}"
    return f"<figure><div>{pictures}</div><figcaption>{said}<br><code>{escape(shown.id)}</code></figcaption></figure>"


def _data(content: Content) -> Iterator[str]:
    manifest = content.manifest
    yield _paragraph(f"{manifest.name} {manifest.version}, revision {manifest.revision}. {facts.inputs(content)}")
    yield html(facts.examples(content))
    yield "<h3>Leaks between splits</h3>"
    leakage = facts.leakage(content)
    yield html(leakage) if leakage else _paragraph(statements.NO_LEAKAGE)


def _charts(content: Content, *names: str) -> str:
    found = [content.charts[name] for name in names if name in content.charts]
    return f"<div class=charts>{''.join(found)}</div>" if found else ""


def _list(lines: Sequence[str]) -> list[str]:
    return [f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"] if lines else []


def _paragraph(text: str, kind: str = "") -> str:
    return f"<p{f' class={kind}' if kind else ''}>{escape(text)}</p>"


def _anchor(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower())

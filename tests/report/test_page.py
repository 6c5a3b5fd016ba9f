"""report.html and dataset.html in headless Chromium: at three widths, bright and dark, and on paper. Nothing is wider than
the page, no request leaves the file, and all text can be read. `make test-report` runs this."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from beam_jobs import convert
from schemas.errors import run_command
from tests.conftest import labelled, write_images
from tests.report.browser import Browser, Page, find_chromium
from tests.report.pages import KINDS, made_up
from training.assessment.page.report import report

pytestmark = pytest.mark.report

PAGES = (*KINDS, "dataset")
PAPER = 688  # CSS pixels: A4 without its margins
VIEWS = [(width, scheme, "screen") for width in (360, 768, 1280) for scheme in ("light", "dark")]
VIEWS += [(PAPER, "light", "print"), (PAPER, "dark", "print")]

# The elements that are wider than the page. On a screen, a confusion matrix of many classes and the tables and the code of
# dataset.html may scroll in boxes of their own.
TOO_WIDE = """(([width, paper]) => {
  const scrolls = box => box && !paper && (box.matches("div.wide") || box.querySelector(".matrix"));
  const found = document.documentElement.scrollWidth > width ? ["the page"] : [];
  for (const element of document.body.querySelectorAll("*")) {
    const box = element.parentElement.closest(".scroll, div.wide");
    const part = element.getBoundingClientRect();
    if (scrolls(box) || (part.left >= -0.5 && part.right <= width + 0.5)) continue;
    found.push(element.outerHTML.slice(0, 80));
  }
  for (const box of document.querySelectorAll(".scroll"))
    if (!scrolls(box) && box.scrollWidth > box.clientWidth + 1) found.push("scrolls: " + box.innerText.slice(0, 80));
  return found;
})"""

# The texts whose contrast with what is behind them is below 4.5 (WCAG 2.2, 1.4.3).
FAINT = """(() => {
  const parse = text => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const over = (top, under) => [0, 1, 2].map(i => top[i] * top[3] + under[i] * (1 - top[3]));
  const light = c => { const [r, g, b] = c.slice(0, 3).map(v => v / 255).map(
    v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = element => { const layers = [];
    for (let e = element; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255]); };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.getClientRects().length) continue;
    const style = getComputedStyle(element), under = behind(element);
    const ink = over(parse(element.namespaceURI.endsWith("svg") ? style.fill : style.color), under);
    const [low, high] = [light(ink), light(under)].sort((a, b) => a - b);
    if ((high + 0.05) / (low + 0.05) < 4.5) found.push(element.outerHTML.slice(0, 80));
  }
  return found;
})()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    executable = find_chromium()
    if executable is None:
        pytest.skip("there is no chromium: install it (apt install chromium) to check report.html")
    started = Browser(executable, tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The report of each kind of task, and the page of a data set."""
    folder = Path(os.environ.get("RADRECORDS_REPORT_FOLDER") or tmp_path_factory.mktemp("pages"))
    for kind in KINDS:
        (folder / f"{kind}.html").write_text(report(made_up(kind)), encoding="utf-8")
    raw, output = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("records") / "cxr"
    write_images(raw, labelled(20, "train", "test"))
    (raw / "train/NORMAL/broken.png").write_bytes(b"\x89PNG")
    flags = ["--input", str(raw), "--output", str(output), "--max_reject_fraction", "0.5"]
    assert run_command(convert.main, flags) == 0
    shutil.copyfile(output / "dataset.html", folder / "dataset.html")
    return {kind: folder / f"{kind}.html" for kind in PAGES}


def too_wide(page: Page) -> list[str]:
    found: list[str] = page.value(f"{TOO_WIDE}([{page.width}, {str(page.media == 'print').lower()}])")
    return found


def foreign(page: Page, file: Path) -> list[str]:
    """The requests for anything that is not in the file."""
    urls = [event["request"]["url"] for event in page.seen("Network.requestWillBeSent")]
    assert file.as_uri() in urls
    return [url for url in urls if url != file.as_uri() and not url.startswith("data:")]


@pytest.mark.parametrize(("width", "scheme", "media"), VIEWS)
@pytest.mark.parametrize("kind", PAGES)
def test_the_page(browser: Browser, pages: dict[str, Path], kind: str, width: int, scheme: str, media: str) -> None:
    page = Page(browser, pages[kind], width, scheme, media)
    if "RADRECORDS_REPORT_FOLDER" in os.environ:
        pages[kind].with_name(f"{kind}-{width}-{scheme}-{media}.png").write_bytes(page.screenshot())
    assert too_wide(page) == []
    assert foreign(page, pages[kind]) == []
    assert page.seen("Log.entryAdded") == []  # such as a style that the page's own policy refuses
    assert page.value(FAINT) == []
    dark = page.value("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark" and media == "screen")
    missing = page.value("[...document.images].filter(image => !image.naturalWidth).length")
    assert missing == 0
    page.close()


def test_the_checks_find_what_they_look_for(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "bad.html"
    file.write_text(
        "<!doctype html><body><div style='width: 2000px'>wide</div><p style='color: #999'>faint</p>"
        "<div class=scroll style='overflow: auto; width: 100px'><p style='width: 200px'>scrolls</p></div>"
        "<div class=scroll style='overflow: auto; width: 100px'><p style='width: 900px' class=matrix>allowed</p></div>"
        "<img src='https://example.org/pixel.png'><svg><text y=10 fill='#ddd'>faint too</text></svg>"
    )
    page = Page(browser, file, 768)
    assert [found[:20] for found in too_wide(page)] == ["the page", '<div style="width: 2', "scrolls: scrolls"]
    assert any("allowed" in found for found in too_wide(Page(browser, file, 768, media="print")))
    assert foreign(page, file) == ["https://example.org/pixel.png"]
    assert [found.split(">")[1].split("<")[0] for found in page.value(FAINT)] == ["faint", "faint too"]
    page.close()

"""Tables of figures in both forms."""

import html as standard
import re

from training.assessment.page.tables import Figure, Table, html, markdown, plain, score, share


def test_figures_have_their_interval() -> None:
    assert share(0.94123, (0.912, 0.9636)) == Figure("94.1%", "91.2 to 96.4%")
    assert score(-0.5, (-0.75, 0.0)) == Figure("-0.500", "-0.750 to 0.000")
    assert share(None) == share(None, (0.0, 1.0)) == Figure("undefined")
    assert score(0.25) == Figure("0.250")


def test_numbers_are_aligned_right_and_words_are_not() -> None:
    numbers = html(Table(["", "value"], [["Accuracy", share(0.5, (0.4, 0.6))]]))
    assert '<th scope="col" class=n><span>value</span></th>' in numbers
    assert '<td class=n data-head="value">50.0% <span class=ci>40.0 to 60.0%</span></td>' in numbers
    words = html(Table(["", ""], [["seed", "0"]], words=True))
    assert "<td>0</td>" in words
    assert "<thead>" not in words


def test_names_are_text_in_html() -> None:
    name = '<script>alert("x")</script> & more'
    table = html(Table(["", name], [[name, Figure(name)]]))
    assert "<script" not in table
    assert [standard.unescape(text) for text in re.findall(r">([^<]+)<", table)] == [name] * 3
    assert re.findall(r'data-head="([^"]*)"', table) == [standard.escape(name)]


def test_a_table_knows_whether_it_fits_on_a_phone() -> None:
    row = [["is a", *"123456"]]
    heads = ["", *"abcdef"]
    assert Table(heads[:4], []).kind == Table(heads[:3], [], matrix=True).kind == "narrow"
    assert Table(heads, row).kind == "wide"
    assert Table(heads, row, matrix=True).kind == "matrix"
    assert "<table class=matrix>" in html(Table(heads, row, matrix=True))


def test_names_are_text_in_markdown() -> None:
    table = markdown(Table(["", "a|b"], [["*No* [Finding](x)", Figure("1", "0 to 2", share=0.5)], ["<b>\n`x`", "_2_"]]))
    assert table.splitlines() == [
        "|  | a\\|b |",
        "| --- | ---: |",
        "| \\*No\\* \\[Finding\\](x) | 1 (0 to 2) |",
        "| \\<b\\> \\`x\\` | \\_2\\_ |",
    ]
    assert plain("model_1 # *") == "model\\_1 \\# \\*"


def test_a_cell_is_shaded_by_its_share() -> None:
    table = html(Table(["", "a", "b"], [["is a", Figure("9", share=0.9), Figure("1", share=0.1)]]))
    assert re.findall(r"/ (\d+)%", table) == ["40", "4"]

"""What is left out, and what is tested, against sets that are written out."""

from training.shifts.examples import Entry
from training.shifts.populations import FEWEST, lacking, populations, with_groups

CLASSES = ("NORMAL", "PNEUMONIA")


def known() -> list[Entry]:
    """100 NORMAL and 100 PNEUMONIA examples, n0 to n99 and p0 to p99, of which each has every fourth in validation. Two in a
    row are one patient, but p0 and p99 are one too."""
    found = []
    for label, letter in enumerate("np"):
        for n in range(100):
            group = "both" if (letter, n) in (("p", 0), ("p", 99)) else f"{letter}{n // 2}"
            found.append(Entry(f"{letter}{n}", group, label, "validation" if n % 4 == 3 else "train"))
    return found


def ids(letter: str, *numbers: int) -> set[str]:
    return {f"{letter}{n}" for n in numbers}


def test_a_population_of_one_class_is_tested_against_validation() -> None:
    cause = {f"p{n}": "virus" if n < 31 else "bacteria" for n in range(100)}
    bacteria, virus = populations(known(), {"cause": cause}, CLASSES)
    assert (bacteria.name, virus.name) == ("cause=bacteria", "cause=virus")
    assert virus.left_out == ids("p", *range(32), 99)  # with the other image of two patients
    assert virus.tested == ids("p", *range(31)) | ids("n", *range(3, 100, 4))
    assert virus.impossible == bacteria.impossible == ""
    assert not virus.tested & {each.id for each in known() if each.split == "train"} - virus.left_out


def test_a_population_of_both_classes_is_tested_alone_unless_one_is_rare() -> None:
    site = {each.id: "a" for each in known() if int(each.id[1:]) < 40}
    (alone,) = populations(known(), {"site": site}, CLASSES)
    assert alone.tested == ids("n", *range(40)) | ids("p", *range(40))
    rare = {id: "a" for id in site if id[0] == "n" or int(id[1:]) < 4}
    (mixed,) = populations(known(), {"site": rare}, CLASSES)
    assert mixed.left_out == ids("n", *range(40)) | ids("p", *range(4), 99)
    assert mixed.tested == ids("n", *range(40)) | ids("p", *range(4), *range(7, 99, 4))


def test_what_cannot_be_left_out() -> None:
    few = {f"p{n}": "few" for n in range(FEWEST - 1)}
    every = {f"n{n}": "every" for n in range(100)}
    some = {f"p{n}": "some" for n in range(100) if n % 4 == 3}
    found = list(populations(known(), {"a": few, "b": every, "c": some}, CLASSES))
    assert [each.impossible for each in found] == [
        "19 examples, fewer than 20",
        "split train has no NORMAL without it",
        "split validation has no PNEUMONIA without it",
    ]
    assert lacking(known(), (), CLASSES) == ""


def test_unknown_ids_and_columns_without_values_are_no_populations() -> None:
    assert list(populations(known(), {"a": {"other": "x"}, "b": {}}, CLASSES)) == []
    assert with_groups(known(), ["other"]) == frozenset()
    assert with_groups(known(), ["p0"]) == ids("p", 0, 99)

"""The estimate of --dry_run: its arithmetic, its table of prices, and what it says about a run."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from beam_jobs.settings import costs
from schemas.errors import UsageError
from tests.conftest import Result, labelled, write_images

Convert = Callable[..., Result]


def table(folder: Path, **changed: Any) -> Path:
    """A table with other prices."""
    path = folder / "prices.json"
    path.write_text(json.dumps({"date": "2030-01", **changed}))
    return path


def test_the_estimate_is_the_sum_of_amounts_times_prices(tmp_path: Path) -> None:
    prices = costs.read_prices(
        str(
            table(
                tmp_path,
                dataflow_vcpu_hour=1,
                dataflow_memory_gb_hour=0.1,
                dataflow_disk_gb_hour=0.01,
                worker_memory_gb_per_vcpu=5,
                worker_disk_gb_per_vcpu=10,
                dataflow_shuffle_gb=2,
                storage_class_a_1000=10,
                storage_class_b_1000=1,
                storage_gb_month=0.5,
            )
        )
    )
    usage = costs.Usage(
        kind=costs.Kind("transcribe", "pages", 500),
        images=1_000_000,
        listed=1_000_001,
        shards=100,
        read_bytes=3 * 10**11,
        written_bytes=4 * 10**9,
        images_per_cpu_second=100,
    )
    hours = 1_000_000 / 100 / 3600
    amounts = {
        "read": (1_000_000 + 100 + 30) * 1 / 1000,
        "list, write": (1_001 + 300 + 20) * 10 / 1000,
        "transcribe": hours * (1 + 5 * 0.1 + 10 * 0.01),
        "shuffle": 1_000_000 * 500 / 1e9 * 2,
    }
    amounts["total"] = sum(amounts.values())
    lines = costs.lines(usage, prices)
    found = {line[:13].strip(): float(line[13:24].replace(",", "")) for line in lines}
    assert found == pytest.approx(amounts, abs=1e-4)
    assert "300 GB, 1,000,130 class B requests x 1 per 1,000" in lines[0]
    assert "2.78 vCPU hours (1,000,000 images / 100 per CPU second / 3,600)" in lines[2]
    assert "storing the pages costs 2.00 a month" in lines[4]


def test_a_dry_run_estimates_from_the_images_of_the_run(tmp_path: Path, convert: Convert) -> None:
    raw = write_images(tmp_path / "raw", labelled(30))
    sizes = [file.stat().st_size for file in raw.rglob("*.png")]
    result = convert(raw, tmp_path / "out", "--dry_run", "--prices", table(tmp_path, date="2031-02", currency="EUR"))
    assert result.code == 0, result.err
    assert not (tmp_path / "out").exists()
    title, read, *_, total, measured = result.out.splitlines()[-7:]
    assert title.endswith(f"at prices of 2031-02 ({tmp_path / 'prices.json'}):")
    found = re.search(r"([\d.]+) GB, 92 class B requests", read)  # one for each image and each shard, and 30
    assert found
    assert float(found[1]) == pytest.approx(sum(sizes) / 1e9, rel=0.01)
    assert re.match(r"  total +\d+\.\d{4} EUR", total)
    assert measured == "  images per CPU second: measured on 30 of these images, on this machine"
    (rate,) = re.findall(r"60 images / ([\d,.]+) per CPU second", result.out)
    assert 10 < float(rate.replace(",", "")) < 100_000


def test_a_dry_run_of_broken_images_gives_no_estimate(tmp_path: Path, convert: Convert) -> None:
    for name in labelled(3):
        (tmp_path / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "raw" / name).write_bytes(name.encode())
    result = convert(tmp_path / "raw", tmp_path / "out", "--dry_run")
    assert result.code == 0, result.err
    assert result.out.splitlines()[-1] == ("estimate: none, because none of 6 images that were tried could be decoded")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"dataflow_vcpu_hour": "cheap"}, "dataflow_vcpu_hour is 'cheap'; it must be a number from 0"),
        ({"storage_gb_month": -1}, "storage_gb_month is -1; it must be a number from 0"),
        ({"date": 2025}, "date is 2025; it must be a text"),
        (
            {"vcpu": 1},
            "must be a JSON object with the date of the prices and any of date, currency, dataflow_vcpu_hour",
        ),
    ],
)
def test_a_table_that_cannot_be_used_is_one_line(tmp_path: Path, changed: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        costs.read_prices(str(table(tmp_path, **changed)))


def test_a_missing_or_broken_table_is_refused_before_the_run(tmp_path: Path, convert: Convert) -> None:
    raw = write_images(tmp_path / "raw", labelled(2))
    result = convert(raw, tmp_path / "out", "--dry_run", "--prices", tmp_path / "none.json")
    assert (result.code, result.error) == (2, f"error: --prices {tmp_path / 'none.json'} does not exist")
    for content in (b"{", b"[1]", b"\xff", b'{"dataflow_vcpu_hour": 1}'):
        (tmp_path / "prices.json").write_bytes(content)
        result = convert(raw, tmp_path / "out", "--dry_run", "--prices", tmp_path / "prices.json")
        assert result.code == 2
        assert "prices.json" in result.error


def test_what_a_table_leaves_out_stays_as_it_is(tmp_path: Path) -> None:
    prices, ours = costs.read_prices(str(table(tmp_path, dataflow_vcpu_hour=1))), costs.read_prices("")
    assert prices == replace(ours, date="2030-01", dataflow_vcpu_hour=1)

"""The benchmark of buckets compares each way with the one that it names, in the same round."""

from benchmarks.buckets import LATENCY, NONE, WAYS, table


def test_ratios_are_medians_of_rounds() -> None:
    seconds = {NONE: [4.0, 8.0, 5.0], LATENCY: [5.0, 8.0, 6.0]}
    ways = {
        name: {"seconds": seconds.get(name, [6.0, 8.0, 9.0]), "requests": [1100] * 3, "failed": [0, 250, 260]}
        for name in WAYS
    }
    machine = {"cores": 2, "cpu": "a CPU", "system": "linux", "load_before": 0.1}
    lines = table({"images": 1000, "rounds": 3, "machine": machine, "ways": ways}).splitlines()
    assert lines[4].split(" | ")[1:5] == ["5.00", "1,100", "250", ""]
    assert lines[5].split(" | ")[1:] == ["6.00", "1,100", "250", "1.20 of no latency", "1.3 |"]
    assert "1.20 of 50 ms" in lines[6]
    assert WAYS[LATENCY].most == 1.3

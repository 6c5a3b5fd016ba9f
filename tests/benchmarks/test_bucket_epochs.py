"""The benchmark of epochs from a bucket reads the same batches whatever the bucket does, and compares within a round."""

from pathlib import Path

from benchmarks.bucket_epochs import CLEAN, FAULTS, LATENCY, OTHERS, TENSORFLOW, main, table


def test_a_small_run(tmp_path: Path) -> None:
    main(["--examples", "300", "--shards", "8", "--work", "0.0001", "--rounds", "1", "--output", str(tmp_path)])
    text = (tmp_path / "bucket_epochs.md").read_text()
    assert "300 gray images of 64x64 pixels in 8 shards" in text
    assert (tmp_path / "bucket_epochs.json").exists()


def test_ratios_are_medians_of_rounds() -> None:
    def ways(*latency: float) -> dict[str, dict[str, list[float]]]:
        seconds = {CLEAN: [2.0, 4.0, 2.0], LATENCY: list(latency), FAULTS: [2.2, 4.0, 3.0]}
        return {way: {"seconds": found, "failed": [0, 0, 7]} for way, found in seconds.items()}

    machine = {"cores": 2, "cpu": "a CPU", "system": "Linux", "load_before": 0.1}
    data = {"examples": 40_000, "shards": 16, "batch": 64, "epochs": 4}
    results = [
        {"backend": TENSORFLOW, "work": 0.005, "ways": ways(2.1, 4.1, 4.0)},
        {"backend": OTHERS, "work": 0.0, "ways": ways(2.0, 4.0, 2.0)},
    ]
    lines = table({"machine": machine, "data": data, "rounds": 3, "results": results}).splitlines()
    assert lines[4:7] == [
        "| TensorFlow | 5 ms | no latency | 2.00 | 0 |  |  |",
        "| TensorFlow | 5 ms | 50 ms | 4.00 | 0 | 1.05 | 1.1 |",
        "| TensorFlow | 5 ms | 50 ms, 5% fail | 3.00 | 0 | 1.10 | 1.1 |",
    ]
    assert lines[8] == "| google-cloud-storage | 0 ms | 50 ms | 2.00 | 0 | 1.00 |  |"

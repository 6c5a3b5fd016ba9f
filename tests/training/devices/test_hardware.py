"""What follows from the devices of a machine."""

import keras
import pytest

from schemas.errors import UsageError
from training.devices.hardware import Hardware, find_hardware, jit, steps_per_call


@pytest.mark.parametrize(
    ("is_gpu", "capability", "policy"),
    [
        (True, 7.0, "mixed_float16"),  # V100
        (True, 7.5, "mixed_float16"),  # T4
        (True, 8.0, "mixed_bfloat16"),  # A100
        (True, 9.0, "mixed_bfloat16"),  # H100
        (True, 0.0, "mixed_bfloat16"),  # of another vendor
        (False, 0.0, "mixed_bfloat16"),
    ],
)
def test_16_bits_by_device(is_gpu: bool, capability: float, policy: str) -> None:
    assert Hardware("jax", "", 1, is_gpu, "", capability=capability).half_precision == policy


def test_steps_between_visits_to_python() -> None:
    cpu, gpu = (Hardware("tensorflow", "", 1, is_gpu, "") for is_gpu in (False, True))
    assert [steps_per_call(cpu, steps) for steps in (1, 1000)] == [1, 1]
    assert [steps_per_call(gpu, steps) for steps in (1, 60, 1000)] == [1, 3, 16]


def test_jit_as_keras_takes_it() -> None:
    assert [jit(choice) for choice in ("auto", "on", "off")] == ["auto", True, False]


def test_the_devices_of_this_machine() -> None:
    found = find_hardware("all")
    assert found.backend == keras.config.backend()
    assert found.version
    assert find_hardware("1").devices == 1
    with pytest.raises(UsageError, match="give at most that many"):
        find_hardware(str(found.devices + 1))

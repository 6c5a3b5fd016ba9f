"""RECORDS -> MODEL: reads TFRecord data sets, trains and evaluates Keras models. Imports schemas only, never Beam."""

import os

# TensorFlow reads this once, when it is first imported; every module that imports it lies in this package.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

"""The contract between raw images, TFRecord data sets and models. Imports neither Beam nor TensorFlow."""

"""Raw images -> TFRecord data sets. Imports schemas only, never TensorFlow."""

"""Predictions for image files: decoding, the scope of a model, another prior, and the output."""

"""Figures of predictions, with 95% intervals: of two classes, of several, and of pairs of models."""

"""Predictions of a finished run: metrics, figures and the report."""

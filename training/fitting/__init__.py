"""Trains a model into a run folder."""

"""Reads a published data set."""

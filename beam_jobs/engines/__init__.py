"""Engines on other machines: what their jobs need, how they end, and what their errors mean."""

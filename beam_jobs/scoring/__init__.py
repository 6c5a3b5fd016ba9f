"""Scores raw images with an exported model: what `beam_jobs.predict` does that a conversion does not."""

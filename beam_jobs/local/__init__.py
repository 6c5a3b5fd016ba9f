"""What a run on this machine needs."""

"""What a run on this machine takes."""

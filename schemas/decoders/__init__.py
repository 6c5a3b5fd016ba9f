"""The child processes in which files are decoded."""

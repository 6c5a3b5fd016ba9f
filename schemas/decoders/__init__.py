"""The child processes that decode files."""

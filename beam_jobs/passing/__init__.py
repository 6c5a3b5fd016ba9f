"""How things travel between steps, and from the workers to the launcher."""

"""How data moves between steps, and reports from the workers to the launcher."""

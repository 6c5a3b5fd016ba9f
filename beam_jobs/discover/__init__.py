"""Step 1: lists the inputs."""

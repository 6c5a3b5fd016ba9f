"""The ways to read that benchmarks.reading compares, each in a process and, if it needs one, an environment of its own."""

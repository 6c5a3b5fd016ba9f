"""Which parts of an image a model looks at."""

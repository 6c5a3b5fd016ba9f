"""Step 2: decides what is written, in which split and shard."""

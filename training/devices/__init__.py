"""The devices that train: what the machine offers, and how batches reach it."""

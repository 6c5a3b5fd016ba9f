"""Folders of raw files: from a disk to a bucket, and back."""

"""A run on disk or in a bucket: its files, and what is checked before they are believed."""

"""Clients of gs:// buckets, with the same functions: TensorFlow's own, and google-cloud-storage for the other backends."""

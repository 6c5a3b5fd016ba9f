"""Proxies of distribution shift, made from the training data alone."""

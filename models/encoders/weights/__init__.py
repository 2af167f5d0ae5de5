"""Weights on this machine: published, fetched, and their digests."""

"""The six stages; each takes the value before it, and none imports another."""

"""The vocabulary, the pixels and the networks: no network I/O, no queue, no database."""

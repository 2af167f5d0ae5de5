"""Composition and processes: stages, ledger, engine, command line."""

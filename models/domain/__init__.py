"""Frozen values that every other part speaks in; standard library and numpy only."""

"""Copies of results that name nobody."""

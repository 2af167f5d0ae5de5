"""Embeddings as tables that other people's tools open: one file a layout."""

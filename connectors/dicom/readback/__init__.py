"""Embeddings read back from DICOM objects, of Slidewire and of others."""

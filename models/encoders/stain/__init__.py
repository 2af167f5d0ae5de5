"""Stain normalisation of many patches at once, with PyTorch."""

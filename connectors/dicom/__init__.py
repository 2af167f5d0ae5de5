"""DICOM as data, without any I/O: metadata in, result objects out, results read back."""

"""The DICOM objects of a result: how they are made."""

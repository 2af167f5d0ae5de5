"""A slide to try Slidewire with: a public sample, written as a DICOM whole-slide pyramid."""

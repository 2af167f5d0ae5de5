"""The watch of an archive: what arrives is looked at, and becomes jobs by rules."""

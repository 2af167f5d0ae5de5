"""TIFF as whole-slide scanners and converters write it: directories, levels, tiles."""

"""Files that are read in parts, wherever they are: on disk, on a web server, in a bucket."""

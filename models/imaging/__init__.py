"""Pure functions on arrays: encoded frames in, patches out."""

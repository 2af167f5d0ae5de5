"""Everything that talks to the outside: servers, buckets, files."""

"""What archives tell of series that come in, and how it is read."""

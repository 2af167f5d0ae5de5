"""The slidewire command."""

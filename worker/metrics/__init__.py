"""Numbers for Prometheus: of a process and its work, and of the ledger. No label holds a UID, a path or a host."""

"""From a user's request to a machine and back, on real processes, with faults."""

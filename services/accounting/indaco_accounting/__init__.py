"""The accounting service: a usage record per node, and its export to APEL."""

"""The sla service: providers, agreements and quota; matches, ranks, reserves and explains."""

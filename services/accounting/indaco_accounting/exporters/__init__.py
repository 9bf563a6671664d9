"""Usage in the formats of others: APEL cloud records as text (pure), and the spool folder that they are sent from."""

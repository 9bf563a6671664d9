"""What the gateway remembers, pure: one Operation per deployment, one key ring per user."""

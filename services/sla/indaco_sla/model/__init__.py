"""Decisions of sla, pure: what is granted, what is held, and where a deployment may go."""

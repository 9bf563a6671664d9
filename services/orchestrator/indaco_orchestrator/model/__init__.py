"""Decisions of the orchestrator, pure: a message, a deadline or what a turn found, in; the next state and messages, out."""

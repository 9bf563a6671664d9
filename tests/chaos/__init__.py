"""Chaos: a federation under load is killed again and again, its sites fail, its messages double; at the end the books must balance."""

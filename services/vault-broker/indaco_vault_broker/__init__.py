"""The vault broker: SSH keys of users and one credential lease per attempt; only handles leave it."""

"""The broker's aggregates: leases of credentials, and SSH keys of users."""

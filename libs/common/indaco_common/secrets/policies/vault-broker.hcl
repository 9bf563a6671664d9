# The vault-broker issues and revokes credentials, keeps users' keys, and sweeps what a deployment leaves behind.

# Credentials of attempts: its own.
path "indaco/data/leases/*" {
  capabilities = ["create", "update", "read", "delete"]
}
path "indaco/metadata/leases/*" {
  capabilities = ["read", "list", "delete"]
}

# Key pairs and credentials of users: its own. With them the tokens that the gateway keeps for deployments; it may renew these.
path "indaco/data/users/*" {
  capabilities = ["create", "update", "read", "delete"]
}
path "indaco/metadata/users/*" {
  capabilities = ["read", "list", "delete"]
}

# Static credentials of sites, written by operators.
path "indaco/data/providers/*" {
  capabilities = ["read"]
}

# What it removes when a deployment has ended, without reading it.
path "indaco/metadata/inputs/*" {
  capabilities = ["list", "delete"]
}
path "indaco/metadata/outputs/*" {
  capabilities = ["list", "delete"]
}
path "indaco/metadata/sessions/*" {
  capabilities = ["list", "delete"]
}

# Its own token.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}
path "auth/token/revoke-self" {
  capabilities = ["update"]
}

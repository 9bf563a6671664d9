# The gateway takes secrets in from users and hands them out to their owners; it never sees a site's credential.

# Secret inputs and the user's own token: written here, read by the orchestrator, removed by the vault-broker.
path "indaco/data/inputs/*" {
  capabilities = ["create", "update"]
}

# Secret outputs, shown once to the deployment's owner.
path "indaco/data/outputs/*" {
  capabilities = ["read"]
}

# Refresh tokens of users whose deployments outlive a sign-in.
path "indaco/data/sessions/*" {
  capabilities = ["create", "update"]
}
path "indaco/metadata/sessions/*" {
  capabilities = ["delete"]
}

# Signing keys of the embedded OpenID Connect issuer.
path "indaco/data/issuer/*" {
  capabilities = ["create", "update", "read"]
}
path "indaco/metadata/issuer/*" {
  capabilities = ["read", "list", "delete"]
}

# A user's key pairs, revealed to that user by a wrapping token.
path "indaco/data/users/+/keys/*" {
  capabilities = ["read"]
}
path "indaco/metadata/users/+/keys/*" {
  capabilities = ["read", "list"]
}
path "sys/wrapping/wrap" {
  capabilities = ["update"]
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

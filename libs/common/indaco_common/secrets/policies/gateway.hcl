# The gateway takes secrets in from users and hands them out to their owners; it never sees a site's credential.

# Secret inputs: written here, read by the orchestrator, removed by the vault-broker; read here when an update is asked for,
# which must not change them.
path "indaco/data/inputs/*" {
  capabilities = ["create", "update", "read"]
}

# Secret outputs, shown once to the deployment's owner.
path "indaco/data/outputs/*" {
  capabilities = ["read"]
}

# Tokens of those who have logged in from a page.
path "indaco/data/sessions/*" {
  capabilities = ["create", "update", "read"]
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

# The secrets of our clients at the issuers, for introspection; administrators put them there.
path "indaco/data/issuers/*" {
  capabilities = ["read"]
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

# Tokens of users whose deployments outlive a sign-in; vault-broker may renew them.
path "indaco/data/users/+/tokens/*" {
  capabilities = ["create", "update", "read"]
}
path "indaco/metadata/users/+/tokens/*" {
  capabilities = ["delete"]
}

# Secrets that the webhooks and callbacks of a user are signed with.
path "indaco/data/users/+/webhooks/*" {
  capabilities = ["create", "update", "read"]
}
path "indaco/metadata/users/+/webhooks/*" {
  capabilities = ["delete"]
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

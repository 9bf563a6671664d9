# What the set-up of a vault for Indaco needs: the mount, the AppRole method, one policy and role per service.
# It reads no secret, but whoever may write the services' policies may come to read all: keep its credential as a root's.

path "sys/mounts" {
  capabilities = ["read"]
}
path "sys/mounts/indaco" {
  capabilities = ["create", "update"]
}
path "indaco/config" {
  capabilities = ["create", "update", "read"]
}

path "sys/auth" {
  capabilities = ["read"]
}
path "sys/auth/approle" {
  capabilities = ["create", "update", "sudo"]
}

path "sys/policy/indaco-*" {
  capabilities = ["create", "update", "read"]
}
path "auth/approle/role/indaco-*" {
  capabilities = ["create", "update", "read"]
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

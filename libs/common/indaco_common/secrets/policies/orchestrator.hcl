# The orchestrator reads what a deployment is built with and writes what it gives back; it removes nothing.

# Secret inputs of the template.
path "indaco/data/inputs/*" {
  capabilities = ["read"]
}

# The credential issued for an attempt at a site.
path "indaco/data/leases/*" {
  capabilities = ["read"]
}

# Secret outputs of the deployment.
path "indaco/data/outputs/*" {
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

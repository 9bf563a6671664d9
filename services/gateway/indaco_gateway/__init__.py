"""The gateway: HTTP in, authentication and authorisation, events out, and the read model that answers GET."""

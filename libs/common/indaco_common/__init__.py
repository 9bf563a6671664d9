"""The kernel that every Indaco service shares: messages, bus, store, secrets, runtime, authentication, telemetry."""

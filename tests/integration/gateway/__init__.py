"""The gateway as its users meet it: over HTTP, on a real store, bus and vault."""

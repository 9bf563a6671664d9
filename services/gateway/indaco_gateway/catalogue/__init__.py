"""The services on offer: where they are read from, and what is served of them."""

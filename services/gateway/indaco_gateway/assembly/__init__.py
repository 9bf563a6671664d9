"""Parts of the gateway that are put together before the whole is."""

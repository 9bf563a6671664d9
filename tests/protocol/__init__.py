"""The real aggregates and their handlers over a bad bus, bad sites, late timers and impatient users."""

"""Provider drivers: one module per kind of cloud, found by the entry points ``indaco.drivers``."""

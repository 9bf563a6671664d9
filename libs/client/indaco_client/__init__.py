"""The Python client of Indaco and the `indaco` command line."""

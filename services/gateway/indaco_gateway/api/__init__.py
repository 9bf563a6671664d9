"""The native API under /v1: a module per resource, answers as pydantic models, errors as problem documents."""

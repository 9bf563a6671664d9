"""Imports of templates, pinned: an operator fetches their texts, services read them by hash and never fetch.

A folder holds ``imports.lock``, which says for each URL the SHA-256 of its text, and the texts as ``<sha256>.yaml``. A refresh only adds
texts and then replaces the lock, so what was planned with an old text can be planned with it again.
"""

from .folder import Folder
from .lock import Lock, Pin
from .pinned import Closure, PinnedImports

__all__ = ["Closure", "Folder", "Lock", "Pin", "PinnedImports"]

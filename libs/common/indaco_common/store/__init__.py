"""State that survives: aggregates with their outbox and inbox, saved in one commit; a journal of what was published."""

from .aggregate import Aggregate
from .port import Entry, Found, JournalQuery, Page, Query, Store
from .repository import Repository

__all__ = ["Aggregate", "Entry", "Found", "JournalQuery", "Page", "Query", "Repository", "Store"]

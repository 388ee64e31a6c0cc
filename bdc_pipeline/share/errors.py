"""What can go wrong with a shared database, as far as its callers have to tell the cases apart."""

from __future__ import annotations


class ShareError(Exception):
    """Something is wrong with a share or a cache: a sentence that says what, where, and what to do."""


class Offline(ShareError):  # noqa: N818  (a state, not a mistake)
    """The share cannot be reached now: gone, hung, or answering with errors. What was written here waits."""


class CacheError(ShareError):
    """The local cache cannot be used."""


class NoCache(CacheError):  # noqa: N818  (a state)
    """There is no place for a cache: its directory cannot be made or written to."""

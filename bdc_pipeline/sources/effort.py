"""What asking a source has cost, as the warehouse counts it.

What belongs here is how a session's counts become an `Effort`; which sessions a fetch has used, each source's client knows.
"""

from bdc_pipeline.fetching.session import ApiSession
from bdc_pipeline.warehouse.stream import Effort


def effort_of(session: ApiSession) -> Effort:
    """What a session has sent and received so far, and how long that would have taken at best."""
    done = session.stats.snapshot()
    return Effort(done.requests, done.retries, done.bytes, done.busy, session.ideal_seconds())

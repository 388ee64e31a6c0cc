"""What asking has cost."""

import pytest

from bdc_pipeline.fetching.pacing import Pacer
from bdc_pipeline.fetching.session import ApiSession
from bdc_pipeline.sources.effort import effort_of
from bdc_pipeline.warehouse.stream import Effort


def test_a_session_that_asked_nothing_has_cost_nothing() -> None:
    with ApiSession("http://127.0.0.1:9") as session:
        assert effort_of(session) == Effort()


def test_a_sessions_counts_are_told_with_the_time_they_would_have_taken_at_best() -> None:
    with ApiSession("http://127.0.0.1:9", workers=4, pacer=Pacer(concurrency=4)) as session:
        session.stats.count(requests=3, retries=1, received=500, busy=0.8)
        told = effort_of(session)
        assert (told.requests, told.retries, told.bytes) == (3, 1, 500)
        assert (told.seconds, told.ideal) == pytest.approx((0.8, 0.2))
        session.stats.count(requests=1)
        assert told.requests == 3, "what was told stays as it was"

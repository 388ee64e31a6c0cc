"""What a fetch hands to the warehouse."""

from bdc_pipeline.warehouse.stream import Effort


def test_efforts_add_up_and_their_differences_are_what_came_between() -> None:
    before, between = Effort(10, 1, 100, 2.0, 0.5), Effort(20, 2, 200, 4.0, 1.0)
    assert before + between == Effort(30, 3, 300, 6.0, 1.5)
    assert (before + between) - before == between
    assert sum([before, between], Effort()) == before + between

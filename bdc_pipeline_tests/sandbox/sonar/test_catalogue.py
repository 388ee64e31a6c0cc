"""What there is to draw from covers what matters."""

from bdc_pipeline.sandbox.sonar import catalogue
from bdc_pipeline_tests.sandbox.sonar.provider import column


def test_what_is_drawn_from_names_rows_that_are_there_and_leaves_none_out() -> None:
    assert set(catalogue.STATUS_OF) == set(range(len(catalogue.STATUSES)))
    assert set(catalogue.TYPE_OF) == set(range(len(catalogue.TYPES)))
    assert set(catalogue.DATA_OF) == set(range(len(catalogue.DATA_SERVICES)))
    assert {model[1] for model in catalogue.MODELS} == set(range(len(catalogue.MANUFACTURERS)))
    assert {model[2] for model in catalogue.MODELS} == set(range(len(catalogue.CATEGORIES)))


def test_percentages_are_of_a_hundred() -> None:
    assert len(catalogue.STATUS_OF) == len(catalogue.TYPE_OF) == 100


def test_every_technology_occurs_and_one_says_too_little() -> None:
    codes = {code for (code,) in column("DataServiceDetail", "technology_code")}
    assert len(codes) == 13
    assert "TERRESTRIALFIXEDWIRELESS" in codes

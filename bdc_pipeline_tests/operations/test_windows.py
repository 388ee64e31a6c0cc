"""How old copies may be, by their sources and by the setting."""

import datetime as dt

import pytest

from bdc_pipeline.operations.facts import Window
from bdc_pipeline.operations.windows import chosen, duration, owners, slow_after
from bdc_pipeline_tests.operations.watched import watched

DAY = dt.timedelta(days=1)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("1h", 3600), ("7d", 604_800), (" 1.5 H ", 5400)]
)
def test_a_time_has_a_unit(text: str, seconds: float) -> None:
    assert duration(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "7", "d", "-1h", "1 week", "0s", "1e3s", "nan d", "999999999d"])
def test_what_is_no_time_is_refused_with_the_text(text: str) -> None:
    with pytest.raises(ValueError, match="no time"):
        duration(text)


@pytest.mark.parametrize(
    ("fail", "warn"), [(59, None), (120, 59), (120, 120), (120, 180)], ids=["short", "short warning", "same", "after"]
)
def test_a_window_lasts_a_minute_and_its_warning_comes_before_its_end(fail: int, warn: int | None) -> None:
    with pytest.raises(ValueError, match=r"60 seconds|before the end"):
        Window(dt.timedelta(seconds=fail), None if warn is None else dt.timedelta(seconds=warn))


def test_a_setting_changes_a_source_or_a_table_and_leaves_the_rest() -> None:
    assert chosen([watched()], "").of("shop", "items") == Window(7 * DAY)
    both = chosen([watched()], "shop=2d/1d, shop/tags=60s")
    assert both.of("shop", "items") == Window(2 * DAY, DAY)
    assert both.of("shop", "tags") == Window(dt.timedelta(minutes=1))
    assert both.problems == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("shop=1x", "BDC_FRESHNESS has shop=1x: '1x' is no time"),
        ("shop=59s", "a window lasts 60 seconds at least"),
        ("shop=1h/2h", "the warning comes before the end"),
        ("shop", "BDC_FRESHNESS holds 'shop', which is no pair"),
        ("shopp=1h", "BDC_FRESHNESS names 'shopp'; it does not count. It can name shop, or an asset of theirs"),
        ("shop/itemz=1h", "BDC_FRESHNESS names 'shop/itemz'"),
    ],
)
def test_what_cannot_be_used_is_a_sentence_and_the_usual_window_holds(text: str, told: str) -> None:
    found = chosen([watched()], f"{text}, shop/notes=2h")
    assert found.of("shop", "items") == Window(7 * DAY)
    assert found.of("shop", "notes") == Window(dt.timedelta(hours=2))
    [problem] = found.problems
    assert told in problem.says
    assert problem.is_of("shop") == (text != "shopp=1h")


def test_a_limit_of_seconds_is_by_source() -> None:
    assert slow_after([watched()], "shop=5s") == ({"shop": 5.0}, [])
    limits, [problem] = slow_after([watched()], "shop=5")
    assert limits == {}
    assert "BDC_SLOW has shop=5" in problem.says


def test_owners_are_teams_or_mail_addresses_or_the_sources_team(unset: pytest.MonkeyPatch) -> None:
    assert owners("team:shop") == (["team:shop"], [])
    unset.setenv("BDC_OWNERS", "team:data, ann@example.com, nobody")
    found, [problem] = owners("team:shop")
    assert found == ["team:data", "ann@example.com"]
    assert "'nobody'" in problem.says

"""The picture of prices is well-formed and shows what there is."""

from __future__ import annotations

import base64
import xml.etree.ElementTree as ET

import pytest

from bdc_pipeline.sources.properties.picture import Point, as_markdown, price_picture, scale

SVG = "{http://www.w3.org/2000/svg}"


def test_a_line_for_each_municipality_and_a_point_for_each_year() -> None:
    prices = {"Køge & omegn": [Point(2020, 20_000.0), Point(2022, 25_000.0)], "Dragør": [Point(2021, 40_000.0)]}
    root = ET.fromstring(price_picture(prices, "Prices <per m²>"))
    assert len(root.findall(f"{SVG}polyline")) == 2
    assert len(root.findall(f"{SVG}circle")) == 3
    texts = [element.text for element in root.findall(f"{SVG}text")]
    assert {"Prices <per m²>", "Køge & omegn", "Dragør", "2020", "2021", "2022"} <= set(texts)
    circles = [(float(c.get("cx", 0)), float(c.get("cy", 0))) for c in root.findall(f"{SVG}circle")]
    assert all(0 < x < 720 and 0 < y < 360 for x, y in circles)


@pytest.mark.parametrize("prices", [{}, {"Dragør": []}, {"Dragør": [Point(2021, 0.5)]}])
def test_little_or_nothing_is_a_picture_too(prices: dict[str, list[Point]]) -> None:
    ET.fromstring(price_picture(prices, "Prices"))


@pytest.mark.parametrize(
    ("highest", "top", "step"), [(1, 2, 1), (9, 10, 2), (41_000, 50_000, 10_000), (60_000, 70_000, 10_000), (0.2, 1, 1)]
)
def test_an_axis_ends_above_the_highest_value_at_a_round_number(highest: float, top: int, step: int) -> None:
    assert scale(highest) == (top, step)


def test_the_picture_travels_inside_markdown() -> None:
    text = as_markdown("<svg/>", "T")
    assert text.startswith("![T](data:image/svg+xml;base64,")
    assert base64.b64decode(text.partition("base64,")[2].rstrip(")")) == b"<svg/>"

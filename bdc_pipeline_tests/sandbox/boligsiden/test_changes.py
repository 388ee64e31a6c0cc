"""What happens to homes between two walks, and during one."""

from typing import Any

import pytest

from bdc_pipeline.sandbox import PagingChange, Sandbox
from bdc_pipeline_tests.sandbox.boligsiden.homes import change, detail, get, hits, homes, listed, rows, walk


def figures(sandbox: Sandbox) -> dict[str, list[Any]]:
    return {row[0]: row[1:] for row in rows(sandbox, "Address", "addressID", "latestValuation", "livingArea")}


def prices(sandbox: Sandbox) -> dict[str, int]:
    return dict(rows(sandbox, "Case", "addressID", "priceCash"))


def test_a_share_of_the_homes_changes(own: Sandbox) -> None:
    before, asked = figures(own), prices(own)
    ids = change(own, "change", share=0.2, seed=3)
    after = figures(own)
    assert ids == sorted(i for i in before if before[i] != after[i])
    assert len(ids) == 520
    assert 100 < sum(before[i][1] != after[i][1] for i in ids) < 250
    now = prices(own)
    assert {i for i in asked if asked[i] != now[i]} == set(ids) & set(asked) != set()


def test_changes_can_be_confined_to_a_municipality_or_to_homes(own: Sandbox) -> None:
    ids = change(own, "change", share=0.5, municipality="Dragør")
    assert set(ids) < set(walk(own, municipalities="Dragør"))
    assert change(own, "change", ids=ids[:2]) == ids[:2]
    assert len(change(own, "change")) == 26


def test_the_same_changes_happen_twice_in_two_sandboxes() -> None:
    found = []
    for _ in range(2):
        with homes(homes=400) as sandbox:
            done = [
                change(sandbox, "change", share=0.1, seed=1),
                change(sandbox, "delete", share=0.1),
                change(sandbox, "insert", count=3, municipality="Greve"),
                change(sandbox, "list", share=0.05),
                change(sandbox, "sell", share=0.5),
            ]
            found.append((done, rows(sandbox, "Address", "addressID", "slug", "latestValuation", "casePrice")))
    assert found[0] == found[1]


def test_new_homes_are_found_where_they_belong(own: Sandbox) -> None:
    before = walk(own, municipalities="Lejre", addressTypes="farm")
    ids = change(own, "insert", count=2, municipality="Lejre", addressType="farm", zipCode=4330)
    after = walk(own, municipalities="Lejre", addressTypes="farm")
    assert set(after) - set(before) == set(ids)
    assert len(set(ids)) == 2
    assert set(walk(own, municipalities="Lejre", addressTypes="farm", sortBy="")) == set(after)
    assert detail(own, ids[0])["zip"]["name"] == "Hvalsø"
    assert set(ids) <= {i for [i] in rows(own, "Address", "addressID")}


def test_a_new_home_may_lack_type_and_zip_code(own: Sandbox) -> None:
    [identifier] = change(own, "insert", addressType="", zipCode=0)
    assert {"addressType", "zipCode", "zip", "city"}.isdisjoint(detail(own, identifier))


def test_new_homes_are_in_address_order(own: Sandbox) -> None:
    listed(own, municipalities="Køge")
    listed(own)
    change(own, "insert", count=20, municipality="Køge")
    found = [home["roadName"] for page in (1, 2) for home in listed(own, municipalities="Køge", page=page)["addresses"]]
    assert found == sorted(found)


def test_deleted_homes_are_gone(own: Sandbox) -> None:
    before = walk(own, municipalities="Stevns")
    assert change(own, "delete", ids=before[:2]) == sorted(before[:2])
    assert walk(own, municipalities="Stevns") == before[2:]
    assert get(own, f"/addresses/{before[0]}")[0] == 404
    assert len(change(own, "delete", share=0.5, municipality="Stevns")) == round((len(before) - 2) / 2)
    with pytest.raises(ValueError, match="no home with the id"):
        change(own, "delete", ids=[before[0]])


def test_a_home_is_put_on_the_market_and_sold(own: Sandbox) -> None:
    identifier = next(i for i in walk(own, municipalities="Furesø") if i not in prices(own))
    sales = len(detail(own, identifier).get("registrations", []))
    assert change(own, "list", ids=[identifier], price=3_000_000) == [identifier]
    home = detail(own, identifier)
    assert (home["isOnMarket"], home["casePrice"], home["cases"][0]["priceCash"]) == (True, 3_000_000, 3_000_000)
    assert get(own, "/search/cases", {"municipalities": "Furesø"})[1]["totalHits"] > 0
    change(own, "sell", ids=[identifier], date="2026-02-03")
    sold = detail(own, identifier)
    assert {"isOnMarket", "casePrice", "cases"}.isdisjoint(sold)
    assert len(sold["registrations"]) == sales + 1
    assert sold["registrations"][0]["date"] == "2026-02-03"
    assert sold["registrations"][0]["amount"] == 3_000_000
    with pytest.raises(ValueError, match="is not on the market"):
        change(own, "sell", ids=[identifier])


def test_a_home_that_is_withdrawn_has_no_sale_and_comes_back_as_another_case(own: Sandbox) -> None:
    identifier = next(iter(prices(own)))
    before = detail(own, identifier)
    change(own, "sell", ids=[identifier], registered=False)
    assert detail(own, identifier).get("registrations") == before.get("registrations")
    cases = {before["cases"][0]["caseID"]}
    for _ in range(2):
        change(own, "list", ids=[identifier])
        cases.add(detail(own, identifier)["cases"][0]["caseID"])
    assert len(cases) == 3


def test_a_share_of_those_for_sale_is_sold(own: Sandbox) -> None:
    before = prices(own)
    assert set(change(own, "sell", share=1)) == set(before)
    assert prices(own) == {}


def test_a_price_changes(own: Sandbox) -> None:
    identifier, before = next(iter(prices(own).items()))
    case = detail(own, identifier)["cases"][0]
    change(own, "price", id=identifier, price=before // 2)
    after = detail(own, identifier)
    assert after["casePrice"] == after["cases"][0]["priceCash"] == before // 2
    assert after["cases"][0]["priceChangePercentage"] == pytest.approx(-50, abs=0.1)
    assert after["cases"][0]["caseID"] == case["caseID"]


def test_a_record_can_be_made_malformed(own: Sandbox) -> None:
    [identifier, *_] = walk(own, municipalities="Ishøj", addressTypes="villa")
    change(
        own,
        "update",
        id=identifier,
        columns={"livingArea": "many", "buildings": "none", "zip": None, "surprise": [{}]},
        nulls=["roadName"],
    )
    home = detail(own, identifier)
    assert (home["livingArea"], home["buildings"], home["surprise"]) == ("many", "none", [{}])
    assert home["roadName"] is None
    assert "zip" not in home
    assert home in listed(own, municipalities="Ishøj", addressTypes="villa")["addresses"]
    truth = {row[0]: row[1:] for row in rows(own, "Address", "addressID", "livingArea", "zip", "surprise")}
    assert truth[identifier] == ["many", None, [{}]]
    assert identifier not in {row[0] for row in rows(own, "Building", "addressID")}


def test_searches_follow_an_update(own: Sandbox) -> None:
    where = {"municipalities": "Ishøj", "addressTypes": "villa"}
    first, second, *_ = walk(own, **where)
    before = hits(own, **where)
    change(own, "update", id=first, columns={"addressType": None})
    change(own, "update", id=second, columns={"addressType": "farm", "zipCode": 4999, "livingArea": 5000})
    assert hits(own, **where) == before - 2
    assert walk(own, municipalities="Ishøj", zipCodes=4999, areaMin=4999) == [second]


def test_a_home_without_an_id_is_still_found_under_its_own(own: Sandbox) -> None:
    [identifier, *_] = walk(own, municipalities="Ishøj")
    change(own, "update", id=identifier, columns={"addressID": None})
    assert "addressID" not in detail(own, identifier)
    assert [None] in rows(own, "Address", "addressID")


@pytest.mark.parametrize(
    ("action", "arguments", "sentence"),
    [
        ("burn", {}, "There is no change 'burn'"),
        ("delete", {}, "by their ids or by a share"),
        ("delete", {"share": 2}, "between 0 and 1, not 2"),
        ("insert", {"municipality": "Aarhus"}, "no municipality 'Aarhus'"),
        ("insert", {"addressType": "castle"}, "no addressType 'castle'"),
        ("list", {"share": 0.1, "price": 0}, "1 DKK or more"),
        ("price", {"id": "x", "price": 1}, "no home with the id x"),
        ("price", {}, "does not take these arguments"),
    ],
)
def test_a_change_that_cannot_be_made_says_why(
    shared: Sandbox, action: str, arguments: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        change(shared, action, **arguments)


def test_homes_that_go_while_pages_are_read_make_a_walk_skip_some(own: Sandbox) -> None:
    before = walk(own, municipalities="Roskilde")
    own.configure(paging_changes=[{"entity": "Address", "action": "delete", "every": 1}])
    first, second = (listed(own, municipalities="Roskilde", page=n) for n in (1, 2))
    assert (first["totalHits"], second["totalHits"]) == (len(before), len(before) - 1)
    assert [home["addressID"] for home in second["addresses"]] == before[51:101]


def test_homes_that_come_while_pages_are_read_are_in_what_is_read() -> None:
    with homes(paging_changes=(PagingChange(entity="Address", action="insert", every=2, times=2),)) as sandbox:
        where = {"municipalities": "Holbæk", "addressTypes": "villa", "zipCodes": 4300, "areaMin": 60}
        totals = [hits(sandbox, **where) for _ in range(7)]
        assert totals == [totals[0]] * 2 + [totals[0] + 1] * 2 + [totals[0] + 2] * 3


def test_a_home_may_change_while_pages_are_read_and_stay_where_it_is(own: Sandbox) -> None:
    before = walk(own, municipalities="Allerød")
    was = figures(own)
    own.configure(paging_changes=[{"entity": "Address", "action": "touch"}, {"entity": "Account", "action": "delete"}])
    assert walk(own, municipalities="Allerød") == before
    own.configure(paging_changes=[])
    now = figures(own)
    assert [i for i in was if was[i] != now[i]] == [before[0]]

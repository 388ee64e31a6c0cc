"""Who wins, as a table of cases; and rules as people write them."""

from typing import Any

import pytest

from bdc_pipeline.share.model import Stamp
from bdc_pipeline.share.rules import Conflict, Decision, RuleError, Rules, Side, TableRule, decide

BASE = {"id": 1, "a": 1, "b": 1}


def conflict(mine: Any, theirs: Any, *, base: Any = BASE, at: tuple[int, int] = (1, 2), known: bool = True) -> Conflict:
    rows = [None if row is None else BASE | row for row in (mine, theirs)]
    sides = [Side(row, edited_at=time, stamp=Stamp(0, 0, name)) for row, time, name in zip(rows, at, "MT", strict=True)]
    return Conflict(base, sides[0], sides[1], base_known=known)


@pytest.mark.parametrize(
    ("rule", "mine", "theirs", "outcome", "row"),
    [
        ("newest", {"a": 2}, {"b": 3}, "theirs", {"b": 3}),
        ("mine", {"a": 2}, {"b": 3}, "mine", {"a": 2}),
        ("mine", None, {"b": 3}, "mine", None),
        ("theirs", {"a": 2}, {"b": 3}, "theirs", {"b": 3}),
        ("theirs", {"a": 2}, None, "theirs", None),
        ("manual", {"a": 2}, {"b": 3}, "manual", {"b": 3}),
        ("fields", {"a": 2}, {"b": 3}, "merged", {"a": 2, "b": 3}),
        ("fields", {"a": 2, "b": 4}, {"b": 3}, "merged", {"a": 2, "b": 3}),
        ("fields", {"a": 2}, {"a": 2, "b": 3}, "theirs", {"a": 2, "b": 3}),
        ({"columns": {"a": "sum"}}, {"a": 3}, {"a": 5, "b": 2}, "merged", {"a": 7, "b": 2}),
        ({"columns": {"a": "max"}}, {"a": 9}, {"a": 5}, "mine", {"a": 9}),
        ({"columns": {"a": "min"}}, {"a": 9}, {"a": 5}, "theirs", {"a": 5}),
        ({"columns": {"a": "max"}}, {"a": None}, {"a": 5}, "theirs", {"a": 5}),
        ({"columns": {"a": "sum"}}, {"a": "x"}, {"a": 5}, "theirs", {"a": 5}),
        ({"columns": {"a": "sum"}}, {"a": 2**63 - 1}, {"a": 3}, "merged", {"a": float(2**63 + 1)}),
        ({"rule": "newest", "columns": {"a": "sum"}}, {"a": 3, "b": 9}, {"a": 5}, "merged", {"a": 7, "b": 1}),
        ("newest", {"a": 2}, None, "mine", {"a": 2}),
        ("newest", None, {"a": 2}, "theirs", {"a": 2}),
        ({"delete": "delete"}, {"a": 2}, None, "theirs", None),
        ({"delete": "delete"}, None, {"a": 2}, "mine", None),
        ({"delete": "newest"}, {"a": 2}, None, "theirs", None),
        ({"delete": "newest"}, None, {"a": 2}, "theirs", {"a": 2}),
    ],
)
def test_outcomes(rule: Any, mine: Any, theirs: Any, outcome: str, row: Any) -> None:
    decision = decide(Rules.of({"t": rule}).for_table("T"), conflict(mine, theirs))
    assert (decision.outcome, decision.row) == (outcome, None if row is None else BASE | row)


def test_ties_fall_by_the_logical_clock_and_then_by_name() -> None:
    even = conflict({"a": 2}, {"a": 3}, at=(5, 5))
    assert decide(TableRule(), even).outcome == "theirs"
    later = Conflict(even.base, Side(even.mine.row, 5, Stamp(0, 1, "M")), even.theirs)
    assert decide(TableRule(), later).outcome == "mine"


def test_without_a_known_base_a_sum_and_a_field_fall_to_the_newest() -> None:
    rule = Rules.of({"t": {"columns": {"a": "sum"}}}).for_table("t")
    assert decide(rule, conflict({"a": 3}, {"a": 5}, base=None, known=False)).row == BASE | {"a": 5}


def test_two_inserts_of_one_thing_add_up_from_nothing() -> None:
    rule = Rules.of({"t": {"columns": {"a": "sum"}}}).for_table("t")
    assert decide(rule, conflict({"a": 3}, {"a": 5}, base=None)).row == BASE | {"a": 8}


@pytest.mark.parametrize("returned", ["text", {"a": 1}, {"id": 1, "a": 1, "b": 1, "c": 2}])
def test_a_function_that_returns_no_row_leaves_the_conflict_to_a_person(returned: Any) -> None:
    rule = Rules.of({"t": lambda *_: returned}).for_table("t")
    decision = decide(rule, conflict({"a": 2}, {"b": 3}))
    assert decision.outcome == "manual"
    assert "returned" in decision.how


def test_a_function_may_delete_and_may_not_change_what_it_is_given() -> None:
    def spoil(base: Any, mine: Any, theirs: Any) -> None:
        mine["a"] = 99

    given = conflict({"a": 2}, {"b": 3})
    assert decide(Rules.of({"t": spoil}).for_table("t"), given) == Decision(
        "merged", None, f"function {spoil.__qualname__}"
    )
    assert given.mine.row == BASE | {"a": 2}


def test_a_function_is_found_by_its_path() -> None:
    assert Rules.of({"t": {"function": "json:loads"}}).for_table("t").function_name == "loads"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("newest", "rules is 'newest'; write one line a table"),
        ({"t": "newst"}, "rule of t is 'newst'; choose one of newest, mine, theirs, fields, manual"),
        ({"t": 3}, "the rule of t is 3; write one of newest"),
        ({"t": {"rul": "mine"}}, "unknown option 'rul'"),
        ({"t": {"columns": ["a"]}}, r"columns of t is \['a'\]; write one line a column"),
        ({"t": {"columns": {"a": "mean"}}}, "columns.a of t is 'mean'; choose one of max, min, sum"),
        ({"t": {"delete": "never"}}, "delete of t is 'never'"),
        ({"t": {"inserts": "x"}}, "inserts of t is 'x'; choose one of renumber, same"),
        ({"t": {"function": "json"}}, "write it as package.module:function"),
        ({"t": {"function": "json:nope"}}, "cannot be imported"),
        ({"t": {"function": "json:__doc__"}}, "is no function but str"),
        ({"t": {"function": "json:loads", "rule": "mine"}}, "has a function and a rule"),
    ],
)
def test_a_wrong_rule_is_a_sentence(given: Any, sentence: str) -> None:
    with pytest.raises(RuleError, match=sentence):
        Rules.of(given)


def test_rules_know_their_tables_without_regard_to_case_and_a_default() -> None:
    rules = Rules.of({"default": "theirs", "Orders": "mine"})
    assert (rules.for_table("orders").rule, rules.for_table("x").rule) == ("mine", "theirs")
    assert Rules.of(None).for_table("x") == TableRule()

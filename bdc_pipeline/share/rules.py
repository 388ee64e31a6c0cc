"""Who wins when two machines have edited one row: rules by table, and the pure function that decides.

A rule runs once, on the machine that finds the conflict; what comes out travels in its next segment as a finished row. Whatever
the outcome, base, mine, theirs and result are kept in the audit by the caller.

| rule | outcome |
|---|---|
| `newest` | the row edited last, by the share's clock (the default) |
| `mine`, `theirs` | the row of the machine that decides; the row that is in the log |
| `fields` | column by column: what only one side has changed is kept, what both have changed falls to the newest |
| `manual` | theirs for now; mine waits, with base and theirs beside it, until somebody chooses |
| a function | `(base, mine, theirs) -> row or None`, rows as dicts, None for a row that is not there |

`columns` gives single columns a way of their own: `max`, `min`, or `sum` (both sides' differences from the base are added).
A row deleted on one side and changed on the other falls under `delete`: `keep` the changed row (the default: what somebody has
just written does not vanish), `delete` it, or `newest`; with the rules `mine`, `theirs` and `manual` it follows the rule itself.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from bdc_pipeline.share.errors import ShareError
from bdc_pipeline.share.model import Stamp, Value

Image = dict[str, Value]
"""A row by column name."""

Function = Callable[[Image | None, Image | None, Image | None], Image | None]

RuleName = Literal["newest", "mine", "theirs", "fields", "manual", "function"]
ColumnWay = Literal["max", "min", "sum"]
RULES = ("newest", "mine", "theirs", "fields", "manual")
_WAYS = ("max", "min", "sum")
_DELETES = ("keep", "delete", "newest")
_INSERTS = ("renumber", "same")
_OPTIONS = ("rule", "columns", "delete", "inserts", "updated_at", "function")


class RuleError(ShareError):
    """A conflict rule that cannot be used: a sentence that names the table and the way out."""


class TableRule(msgspec.Struct, frozen=True):
    """How conflicts of one table are decided.

    `inserts` tells what two new rows with one row number are: two rows, of which the later gets a new number (`renumber`), or one
    thing whose number comes from elsewhere (`same`). `updated_at` names the column in which programs note when they edit a row.
    """

    rule: RuleName = "newest"
    columns: dict[str, ColumnWay] = {}
    delete: Literal["keep", "delete", "newest"] | None = None
    inserts: Literal["renumber", "same"] = "renumber"
    updated_at: str = "updated_at"
    function: Function | None = None
    function_name: str = ""


class Rules(msgspec.Struct, frozen=True):
    """The rule of each table, and the one for all others."""

    default: TableRule = TableRule()
    tables: dict[str, TableRule] = {}

    def for_table(self, name: str) -> TableRule:
        """The rule of a table; names compare as SQLite compares them, without regard to case."""
        return self.tables.get(name.lower(), self.default)

    @classmethod
    def of(cls, given: Mapping[str, object] | None) -> "Rules":
        """Rules from a mapping of table names (or `default`) to a rule's name, a Python function, or options.

        Raises RuleError with a sentence on the first thing that is wrong.
        """
        if given is None:
            return cls()
        if not isinstance(given, Mapping):
            raise RuleError(f"rules is {given!r}; write one line a table, such as 'orders: newest'")
        read = {str(name): _rule(str(name), rule) for name, rule in given.items()}
        default = read.pop("default", TableRule())
        return cls(default=default, tables={name.lower(): rule for name, rule in read.items()})


class Side(msgspec.Struct, frozen=True):
    """One side of a conflict: its row (None where it has deleted it), when it was edited (ms, the share's clock), and the stamp."""

    row: Image | None
    edited_at: int = 0
    stamp: Stamp = Stamp()


class Conflict(msgspec.Struct, frozen=True):
    """A row changed on two machines. `base` is what both began from: None where there was no row, or it is not known."""

    base: Image | None
    mine: Side
    theirs: Side
    base_known: bool = True


class Decision(msgspec.Struct, frozen=True):
    """What becomes of a conflict. `row` is the result; `how` names the rule and its choice for the audit."""

    outcome: Literal["mine", "theirs", "merged", "manual"]
    row: Image | None
    how: str


def decide(rule: TableRule, conflict: Conflict) -> Decision:
    """The outcome of a conflict under a rule, for two rows that differ. Pure, but for a function of the user's."""
    mine, theirs = conflict.mine.row, conflict.theirs.row
    if rule.rule == "function":
        return _by_function(rule, conflict)
    if rule.rule == "mine":
        return Decision("mine", mine, "mine")
    if rule.rule in {"theirs", "manual"}:
        return Decision("theirs" if rule.rule == "theirs" else "manual", theirs, rule.rule)
    if mine is None or theirs is None:
        return _deleted(rule, conflict)
    if rule.rule == "fields" or rule.columns:
        return _by_fields(rule, conflict, mine, theirs)
    return _newest(conflict, "newest")


def is_newer(mine: Side, theirs: Side) -> bool:
    """Whether mine was edited later: by the share's clock, then the logical clock, then the client's name."""
    return (mine.edited_at, mine.stamp) > (theirs.edited_at, theirs.stamp)


def _newest(conflict: Conflict, how: str) -> Decision:
    if is_newer(conflict.mine, conflict.theirs):
        return Decision("mine", conflict.mine.row, how)
    return Decision("theirs", conflict.theirs.row, how)


def _deleted(rule: TableRule, conflict: Conflict) -> Decision:
    """One side has deleted the row and the other has changed it."""
    way = rule.delete or "keep"
    if way == "newest":
        return _newest(conflict, "delete: newest")
    mine_stays = (conflict.mine.row is None) == (way == "delete")
    if mine_stays:
        return Decision("mine", conflict.mine.row, f"delete: {way}")
    return Decision("theirs", conflict.theirs.row, f"delete: {way}")


def _by_fields(rule: TableRule, conflict: Conflict, mine: Image, theirs: Image) -> Decision:
    """Column by column; a column with no way of its own follows the rule: merged by `fields`, else the newest row's."""
    newer = mine if is_newer(conflict.mine, conflict.theirs) else theirs
    base = conflict.base or {}
    row: Image = {}
    for column, theirs_value in theirs.items():
        mine_value = mine.get(column)
        way = rule.columns.get(column)
        if way == "sum" and not conflict.base_known:
            row[column] = newer.get(column)  # what was added is not known
        elif way is not None:
            row[column] = _combined(way, base.get(column), mine_value, theirs_value, newer.get(column))
        elif rule.rule != "fields" or not conflict.base_known or conflict.base is None:
            row[column] = newer.get(column)
        elif _same(mine_value, base.get(column)):
            row[column] = theirs_value
        elif _same(theirs_value, base.get(column)):
            row[column] = mine_value
        else:
            row[column] = newer.get(column)
    how = rule.rule if not rule.columns else f"{rule.rule} ({', '.join(f'{c}: {w}' for c, w in rule.columns.items())})"
    if row == theirs:
        return Decision("theirs", theirs, how)
    return Decision("mine", mine, how) if row == mine else Decision("merged", row, how)


def _combined(way: ColumnWay, base: Value, mine: Value, theirs: Value, newer: Value) -> Value:
    """Two values of one column made one; what is no number (and for max and min no pair of one kind) falls to the newest."""
    if mine is None or theirs is None:
        return theirs if mine is None and way != "sum" else mine if way != "sum" else newer
    if way == "sum":
        if isinstance(mine, int | float) and isinstance(theirs, int | float):
            total = theirs + (mine - (base if isinstance(base, int | float) else 0))
            return total if isinstance(total, float) or -(2**63) <= total < 2**63 else float(total)
        return newer
    numbers = isinstance(mine, int | float) and isinstance(theirs, int | float)
    if not numbers and type(mine) is not type(theirs):
        return newer
    return max(mine, theirs) if way == "max" else min(mine, theirs)


def _same(one: Value, other: Value) -> bool:
    return type(one) is type(other) and one == other


def _by_function(rule: TableRule, conflict: Conflict) -> Decision:
    """What the user's function says; one that fails loses nothing: the conflict waits for a person."""
    assert rule.function is not None  # noqa: S101  (made so by _rule)
    name = f"function {rule.function_name}"
    copies = [dict(row) if row is not None else None for row in (conflict.base, conflict.mine.row, conflict.theirs.row)]
    try:
        row: object = rule.function(*copies)
    except Exception as error:  # noqa: BLE001  (any failure of a stranger's function)
        return Decision("manual", conflict.theirs.row, f"{name} failed: {type(error).__name__}: {error}")
    if row is not None and not isinstance(row, dict):
        return Decision("manual", conflict.theirs.row, f"{name} returned {type(row).__name__}, neither a dict nor None")
    columns = (conflict.theirs.row or conflict.mine.row or {}).keys()
    if row is not None and (odd := set(row) ^ set(columns)):
        return Decision("manual", conflict.theirs.row, f"{name} returned wrong columns: {', '.join(sorted(odd))}")
    if row == conflict.theirs.row:
        return Decision("theirs", row, name)
    return Decision("mine" if row == conflict.mine.row else "merged", row, name)


def _rule(table: str, given: object) -> TableRule:
    if isinstance(given, str):
        return TableRule(rule=_choice(table, "rule", given, RULES))
    if callable(given):
        return TableRule(rule="function", function=given, function_name=getattr(given, "__qualname__", repr(given)))
    if not isinstance(given, Mapping):
        raise RuleError(f"the rule of {table} is {given!r}; write one of {', '.join(RULES)}, or options below it")
    if unknown := sorted(str(name) for name in given if name not in _OPTIONS):
        raise RuleError(f"the rule of {table} has an unknown option {unknown[0]!r}; there are {', '.join(_OPTIONS)}")
    return _rule_of_options(table, given)


def _rule_of_options(table: str, given: Mapping[str, Any]) -> TableRule:
    columns = given.get("columns") or {}
    if not isinstance(columns, Mapping):
        raise RuleError(f"columns of {table} is {columns!r}; write one line a column, such as 'quantity: sum'")
    ways = {str(name): _choice(table, f"columns.{name}", way, _WAYS) for name, way in columns.items()}
    function = given.get("function")
    if function is not None and ("rule" in given or columns):
        raise RuleError(
            f"{table} has a function and a rule; a function decides whole rows, so leave rule and columns away"
        )
    named = function if callable(function) or function is None else _imported(table, str(function))
    default: RuleName = "function" if named else "fields" if ways else "newest"
    delete = given.get("delete")
    return TableRule(
        rule=_choice(table, "rule", given["rule"], RULES) if "rule" in given else default,
        columns=ways,
        delete=_choice(table, "delete", delete, _DELETES) if delete is not None else None,
        inserts=_choice(table, "inserts", given.get("inserts", "renumber"), _INSERTS),
        updated_at=str(given.get("updated_at", "updated_at")),
        function=named,
        function_name=getattr(named, "__qualname__", "") if named else "",
    )


def _choice(table: str, option: str, given: object, choices: tuple[str, ...]) -> Any:
    if given not in choices:
        raise RuleError(f"{option} of {table} is {given!r}; choose one of {', '.join(choices)}")
    return given


def _imported(table: str, path: str) -> Function:
    module, _, name = path.partition(":")
    if not name:
        raise RuleError(f"the function of {table} is {path!r}; write it as package.module:function")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise RuleError(f"the function of {table}, {path!r}, cannot be imported: {error}") from error
    if not callable(found):
        raise RuleError(f"the function of {table}, {path!r}, is no function but {type(found).__name__}")
    return found  # type: ignore[no-any-return]

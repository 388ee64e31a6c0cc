"""Changes of the generated data: what happens at a provider between two runs, or during one.

Every change is deterministic but for its moment, which is the real clock's unless one is given: a client's watermark comes
from the Date header, so what changes later must carry a later time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from graphql import GraphQLError

from bdc_pipeline.sandbox.acting import act
from bdc_pipeline.sandbox.options import PagingChange
from bdc_pipeline.sandbox.sonar.schema import REVERSE, parse_datetime
from bdc_pipeline.sandbox.sonar.tables import NEVER, Table, World

#: Columns that name the owner of a row that may belong to several kinds of thing: (type, id, the kind that is a link, its link)
_OWNERS = {
    "Address": ("addressable_type", "addressable_id", "Account", "account"),
    "InventoryItem": ("inventoryitemable_type", "inventoryitemable_id", "Address", "address"),
}
#: What `change` does to a row of an entity; others get a new name, or else just a new updated_at.
_EDITS: dict[str, Callable[[Random, int], dict[str, Any]]] = {
    "Account": lambda random, i: {
        "name": f"Example Customer {i} Renamed {random.randrange(1000)}",
        "account_status_id": str(random.randint(1, 5)),
    },
    "AccountService": lambda random, _: {"service_id": str(random.randint(1, 19)), "quantity": random.randint(1, 3)},
    "Address": lambda random, _: {
        "line1": f"{random.randrange(1, 9999)} Changed Street",
        "latitude": f"32.{random.randrange(10**7):07d}",
    },
    "InventoryItem": lambda random, _: {"status": random.choice(["FUNCTIONAL", "FAILED", "LOST"])},
    "InventoryModelFieldData": lambda random, _: {"value": f"02005F{random.randrange(16**6):06X}"},
    "ServiceableAddressAccountAssignmentHistory": lambda random, _: {
        "end_date": f"2025-12-{random.randint(1, 28):02d}"
    },
    "DataServiceDetail": lambda random, _: {"download_speed_kilobits_per_second": 1000 * random.randint(10, 900)},
}


class Changes:
    """What can be done to a world. Each method raises ValueError with a sentence if it cannot be."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._paged: dict[PagingChange, int] = {}

    def apply(self, action: str, arguments: Mapping[str, Any]) -> Any:
        """Do what the control endpoint asks for."""
        actions: dict[str, Callable[..., Any]] = {
            "change": self.change,
            "insert": self.insert,
            "delete": self.delete,
            "archive": self.archive,
            "touch": self.touch,
            "update": self.update,
        }
        return act(actions, action, arguments, moment=_moment)

    def change(
        self, *, share: float = 0.01, entities: Sequence[str] | None = None, seed: int = 0, at: int | None = None
    ) -> dict[str, int]:
        """Edit a share of the rows of each entity; how many by entity."""
        done: dict[str, int] = {}
        for name in entities or list(self.world.tables):
            table = self._table(name)
            random = Random(f"{seed}/{name}")  # noqa: S311  # which rows, not secrets
            rows = _sample(random, self.world.living(table, hidden=True), share)
            for n in rows:
                self._edit(table, n, _edited(table, n, random), at)
            done[name] = len(rows)
        self._changed()
        return done

    def insert(
        self,
        *,
        count: int = 1,
        entity: str = "Customer",
        columns: Mapping[str, Any] | None = None,
        at: int | None = None,
    ) -> dict[str, list[int]]:
        """Add rows; their ids by entity. A Customer is an account with all that belongs to it."""
        made: dict[str, list[int]] = {}
        for _ in range(count):
            rows = self._add_customer(at) if entity == "Customer" else {entity: self._add(entity, at, {})}
            for name, n in rows.items():
                table = self._table(name)
                if columns and name in {entity, "Account" if entity == "Customer" else entity}:
                    self._set(table, n, columns)
                made.setdefault(name, []).append(table.ids[n])
        self._changed()
        return made

    def delete(
        self, *, entity: str, ids: Sequence[int] | None = None, share: float | None = None, seed: int = 0
    ) -> list[int]:
        """Remove rows without removing what points to them; the ids."""
        table = self._table(entity)
        rows = self._chosen(table, ids, share, seed)
        for n in rows:
            table.delete(n)
        self._changed()
        return [table.ids[n] for n in rows]

    def archive(
        self, *, ids: Sequence[int] | None = None, share: float | None = None, seed: int = 0, at: int | None = None
    ) -> list[int]:
        """Archive accounts; the ids."""
        table = self._table("Account")
        rows = self._chosen(table, ids, share, seed)
        for n in rows:
            table.hidden.add(n)
            table.touch(n, _now(at))
        self._changed()
        return [table.ids[n] for n in rows]

    def touch(
        self,
        *,
        entity: str,
        ids: Sequence[int] | None = None,
        share: float | None = None,
        seed: int = 0,
        at: int | None = None,
    ) -> list[int]:
        """Move updated_at and nothing else; the ids."""
        table = self._table(entity)
        rows = self._chosen(table, ids, share, seed)
        for n in rows:
            table.touch(n, _now(at))
        self._changed()
        return [table.ids[n] for n in rows]

    def update(self, *, entity: str, identifier: int, columns: Mapping[str, Any], at: int | None = None) -> None:
        """Set columns of one row, to values of any kind."""
        table = self._table(entity)
        self._edit(table, self._row(table, identifier), columns, at)
        self._changed()

    def while_paging(self, change: PagingChange, reads: int) -> None:
        """Called when an entity was read for the `reads`-th time."""
        if reads % change.every or self._paged.get(change, 0) == change.times:
            return
        self._paged[change] = self._paged.get(change, 0) + 1
        table = self._table(change.entity)
        if change.action == "insert":
            self._add(change.entity, None, {})
        elif rows := self.world.living(table, hidden=False):
            if change.action == "delete":
                table.delete(rows[0])
            else:
                table.touch(rows[0], _now(None))
        self._changed()

    # ---

    def _changed(self) -> None:
        self.world.clock += 1

    def _table(self, name: str) -> Table:
        table = self.world.tables.get(name)
        if table is None:
            raise ValueError(f"There is no entity {name!r}. There are: {', '.join(self.world.tables)}.")
        return table

    def _row(self, table: Table, identifier: int) -> int:
        n = table.row(identifier)
        if n is None:
            raise ValueError(f"There is no {table.name} with the id {identifier}.")
        return n

    def _chosen(self, table: Table, ids: Sequence[int] | None, share: float | None, seed: int) -> Sequence[int]:
        if (ids is None) == (share is None):
            raise ValueError("Say which rows by their ids or by a share, one of the two.")
        if ids is not None:
            return [self._row(table, identifier) for identifier in ids]
        random = Random(f"{seed}/{table.name}")  # noqa: S311  # which rows, not secrets
        return _sample(random, self.world.living(table, hidden=False), share or 0.0)

    def _add(self, entity: str, at: int | None, links: dict[str, int]) -> int:
        table = self._table(entity)
        random = Random(f"{entity}/{len(table)}")  # noqa: S311  # data, not secrets
        for link in table.links:
            # What the schema says is never null must lead somewhere
            if link not in links and f"{link}_id" in table.entity.required:
                links[link] = random.randrange(len(table.targets[link]))
        return table.add(random.getrandbits(64), _now(at), links)

    def _add_customer(self, at: int | None) -> dict[str, int]:
        account = self._add("Account", at, {})
        address = self._add("Address", at, {"account": account, "kind": 0})
        history = self._add("ServiceableAddressAccountAssignmentHistory", at, {"account": account, "address": address})
        service = self._add("AccountService", at, {"account": account, "service": account % 19})
        item = self._add("InventoryItem", at, {"address": address, "account_service": service, "inventory_model": 0})
        # The first model has two fields, a MAC address and a serial number; fields are numbered by model
        value = self._add("InventoryModelFieldData", at, {"inventory_item": item, "inventory_model_field": 0})
        return {
            "Account": account,
            "Address": address,
            "ServiceableAddressAccountAssignmentHistory": history,
            "AccountService": service,
            "InventoryItem": item,
            "InventoryModelFieldData": value,
        }

    def _edit(self, table: Table, n: int, columns: Mapping[str, Any], at: int | None) -> None:
        table.touch(n, _now(at))
        self._set(table, n, columns)

    def _set(self, table: Table, n: int, columns: Mapping[str, Any]) -> None:
        for column, value in columns.items():
            if (table.name, column) == ("Account", "account_groups"):
                groups = self._table("AccountGroup")
                self.world.regrouped[n] = sorted(self._row(groups, identifier) for identifier in value)
            elif column == "id" or (column not in table.entity.columns):
                raise ValueError(f"{table.name} has no column {column!r} that can be set.")
            elif column == "updated_at" and _is_moment(value):
                table.stamps[n] = _moment(value)
            else:
                table.overrides.setdefault(column, {})[n] = value
                self._follow(table, n, column, value)
        if table.name == "Account" and "archived_at" in columns:
            (table.hidden.discard if columns["archived_at"] is None else table.hidden.add)(n)
        self._follow_owner(table, n, columns)

    def _follow(self, table: Table, n: int, column: str, value: Any) -> None:
        """Let a relation lead where its column now says."""
        link = column.removesuffix("_id")
        if column.endswith("_id") and link in table.targets and (table.name, link) not in REVERSE:
            table.relink(n, link, _row_or_never(table.targets[link], value))

    def _follow_owner(self, table: Table, n: int, columns: Mapping[str, Any]) -> None:
        if table.name not in _OWNERS:
            return
        kind_column, id_column, kind, link = _OWNERS[table.name]
        if kind_column not in columns and id_column not in columns:
            return
        [owner], [identifier] = table.values(kind_column, [n]), table.values(id_column, [n])
        # What is not set must stay as it is said now, though the link that it came from goes
        for column, value in ((kind_column, owner), (id_column, identifier)):
            table.overrides.setdefault(column, {})[n] = value
        table.relink(n, link, _row_or_never(table.targets[link], identifier) if owner == kind else NEVER)


def _edited(table: Table, n: int, random: Random) -> dict[str, Any]:
    edit = _EDITS.get(table.name)
    if edit is not None:
        return edit(random, table.ids[n])
    return {"name": f"Example {table.ids[n]} Renamed"} if "name" in table.entity.columns else {}


def _sample(random: Random, rows: Sequence[int], share: float) -> Sequence[int]:
    if not 0 <= share <= 1:
        raise ValueError(f"A share of rows is between 0 and 1, not {share}.")
    return sorted(random.sample(rows, round(len(rows) * share)))


def _row_or_never(table: Table, identifier: Any) -> int:
    try:
        n = table.row(int(identifier))
    except (TypeError, ValueError):
        return NEVER
    return NEVER if n is None else n


def _now(at: int | None) -> int:
    return int(time.time()) if at is None else at


def _is_moment(value: Any) -> bool:
    try:
        parse_datetime(value)
    except GraphQLError:
        return False
    return True


def _moment(text: str) -> int:
    try:
        return int(parse_datetime(text))
    except GraphQLError as error:
        raise ValueError(error.message) from None

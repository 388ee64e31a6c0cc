"""Applying what others have published to a cache in which rows have been changed meanwhile.

It goes as a rebase does. The rows changed here that a segment touches are lifted off; what the log says is written in their place;
then they are put back on top of it, each by the rule of its table where both sides have changed it. A row that the log's rows leave
no room for (a UNIQUE clash, a parent that is gone) is parked in `_sync_conflict` with base, mine and theirs. The log is never
blocked by what is here, and nothing that was written here goes without a trace.
"""

import sqlite3
from collections.abc import Iterable

import msgspec

from bdc_pipeline.share import dirty
from bdc_pipeline.share.audit import AuditRow, OpenConflict, keep_decision, park
from bdc_pipeline.share.capture import ABSENT, PRESENT, UNKNOWN, Captured
from bdc_pipeline.share.clock import edited_at
from bdc_pipeline.share.dirty import Local
from bdc_pipeline.share.model import Key, Row, Stamp
from bdc_pipeline.share.related import Held, Kin
from bdc_pipeline.share.rows import clashing, delete, insert_sql, same, upsert_sql
from bdc_pipeline.share.rules import Conflict, Decision, Image, Rules, Side, decide
from bdc_pipeline.share.tables import Table

Place = tuple[str, Key]


class Incoming(msgspec.Struct, frozen=True):
    """A row as the log has it now; `row` in the order of the table's columns here, None for one that is deleted."""

    captured: Captured
    key: Key
    row: Row | None
    edited_at: int = 0
    stamp: Stamp = Stamp()

    @property
    def place(self) -> Place:
        """Table and key."""
        return self.captured.table.name, self.key


class Circumstances(msgspec.Struct, frozen=True):
    """What a merge has to know: the segment's number, who wrote it, the clocks (ms), and the rules."""

    sequence: int
    client: str
    rules: Rules
    now: int
    offset: int
    me: str


class Tally(msgspec.Struct):
    """What came of it."""

    conflicts: int = 0
    parked: int = 0
    renumbered: int = 0
    rebuild: bool = False


class Merge:
    """One merge of rows from the log into a cache, in the caller's transaction."""

    def __init__(self, db: sqlite3.Connection, captured: dict[str, Captured], where: Circumstances) -> None:
        self.db = db
        self.captured = captured
        self.where = where
        self.tally = Tally()
        self.lifted: list[Local] = []
        self.theirs: dict[Place, Incoming] = {}
        self.kin = Kin(db, captured)
        self.gone: dict[str, set[Row]] = {}
        self._replaying = False

    def run(self, incoming: list[Incoming]) -> Tally:
        """Write these rows, and put what was changed here back on top."""
        self.theirs = {one.place: one for one in incoming}
        self.gone = self.kin.vanishing([(one.captured, one.key, one.row) for one in incoming])
        self._lift_touched(incoming)
        # What the log says is true whatever a CHECK says of it; what is merged here is checked
        self.db.execute("PRAGMA ignore_check_constraints = ON")
        try:
            self._write(incoming)
            self.replay()
            self._restore_parents(incoming)
            self._park_orphans()
        finally:
            self.db.execute("PRAGMA ignore_check_constraints = OFF")
        return self.tally

    def on_top(self) -> None:
        """Put lifted rows on top of content that is what the log says."""
        self.db.execute("PRAGMA ignore_check_constraints = ON")
        try:
            self.replay()
            self._park_orphans()
        finally:
            self.db.execute("PRAGMA ignore_check_constraints = OFF")

    def park_lost(self, held: list[Held]) -> None:
        """Rows changed here that had a parent and have none now wait for a person."""
        for child, foreign, parent, key, values in held:
            one, other = self.captured.get(child), self.captured.get(parent)
            if one and (other is None or not self.kin.exists(other.table, foreign.parent_columns, values)):
                self._evict(one, key, f"{parent} {_words(values)}, which it belongs to, is not there")

    # -- what the log says -------------------------------------------------------------------------------------

    def _lift_touched(self, incoming: list[Incoming]) -> None:
        """Take rows changed here that the log has now too off the dirty rows; their content is written over next."""
        for one, group in _grouped(incoming):
            if self.db.execute(f"SELECT 1 FROM {one.dirty} LIMIT 1").fetchone():
                found = [local for item in group if (local := dirty.find(self.db, one, item.key))]
                dirty.forget(self.db, one, [local.key for local in found])
                self.lifted += found

    def _write(self, incoming: list[Incoming]) -> None:
        """Rows deleted first, then rows written; rows that share unique values are taken out before any is put in."""
        for one, group in _grouped(incoming):
            rows = [item for item in group if item.row is not None]
            delete(self.db, one.table, [item.key for item in group if item.row is None])
            if not one.table.folded and self._upserted(one.table, rows):
                continue
            delete(self.db, one.table, [item.key for item in rows])
            for item in rows:
                self._insert_synced(one, item.key, item.row)

    def _upserted(self, table: Table, rows: list[Incoming]) -> bool:
        """Write rows in one go; False where one clashes, and then none is written."""
        self.db.execute("SAVEPOINT upsert")
        try:
            self.db.executemany(
                upsert_sql(table), (table.values(item.key, item.row) for item in rows if item.row is not None)
            )
        except sqlite3.IntegrityError:
            self.db.execute("ROLLBACK TO upsert")
            return False
        finally:
            if self.db.in_transaction:
                self.db.execute("RELEASE upsert")
        return True

    def _insert_synced(self, one: Captured, key: Key, row: Row | None) -> None:
        """Put in a row of the log's, whose key is free; what stands in its way gives way."""
        if row is None or self._inserted(one.table, key, row):
            return
        for clash in clashing(self.db, one.table, key, row):
            self._evict(one, clash, f"its unique values are taken by {one.table.name} {_words(key)}")
        if self._inserted(one.table, key, row):
            return
        if one.table.odd_unique:
            for local in list(dirty.read(self.db, one)):
                self._evict(one, local.key, f"a unique index of {one.table.name} leaves no room for it")
        # Only a segment that holds a part of a larger edit leaves two of the log's rows alike; the rest of it follows
        self.db.execute(insert_sql(one.table, "OR REPLACE"), one.table.values(key, row))

    def _inserted(self, table: Table, key: Key, row: Row) -> bool:
        try:
            self.db.execute(insert_sql(table), table.values(key, row))
        except sqlite3.IntegrityError:
            return False
        return True

    def _evict(self, one: Captured, key: Key, reason: str) -> None:
        """A row changed here gives way to the log's: it is lifted, or parked where it had been lifted before."""
        local = dirty.find(self.db, one, key)
        if local is None:
            return
        dirty.forget(self.db, one, [key])
        delete(self.db, one.table, [key])
        base = self._base(local)
        if base is not None and not self._inserted(one.table, key, base):
            for clash in clashing(self.db, one.table, key, base):
                self._evict(one, clash, reason)
            self.tally.rebuild |= not self._inserted(one.table, key, base)
        if self._replaying:
            self._park(local, reason)
        else:
            self.lifted.append(local)

    def _base(self, local: Local) -> Row | None:
        """What the log has for a row changed here."""
        theirs = self.theirs.get(local.place)
        return theirs.row if theirs else local.base

    # -- what was changed here ---------------------------------------------------------------------------------

    def replay(self) -> None:
        """Put lifted rows back on top of what the log says."""
        self._replaying = True
        self._renumber()
        results = [(local, result) for local in self.lifted if (result := self._result(local)) is not None]
        self.lifted = []
        for local, _ in results:
            delete(self.db, local.captured.table, [local.key])
        for local, result in sorted(results, key=lambda pair: pair[1].row is not None):
            self._put(local, result.row, check=result.outcome == "merged")

    def _result(self, local: Local) -> Decision | None:
        """What a row changed here becomes, or None where the log's row stays as it is; decisions go into the audit."""
        theirs = self.theirs.get(local.place)
        if theirs is None or (local.state != UNKNOWN and theirs.row == local.base):
            return Decision("mine", self._image(local, local.mine), "")
        if theirs.row == local.mine:
            return None
        conflict = self._conflict(local, theirs)
        decision = decide(self.where.rules.for_table(local.captured.table.name), conflict)
        self.tally.conflicts += 1
        self._keep(local, decision.outcome, decision.how, decision.row)
        if decision.outcome == "manual":
            self._park(local, decision.how)
        if decision.outcome in {"manual", "theirs"}:
            return None
        local.at = max(local.at, theirs.edited_at - self.where.offset) if decision.outcome == "merged" else local.at
        local.decision = f"{decision.how}: {decision.outcome}"
        return decision

    def _conflict(self, local: Local, theirs: Incoming) -> Conflict:
        base = self._image(local, local.base)
        return Conflict(
            base=base,
            mine=Side(self._image(local, local.mine), self.edited_at(local), _signed(local.stamp, self.where.me)),
            theirs=Side(self._image(local, theirs.row), theirs.edited_at, theirs.stamp),
            base_known=local.state != UNKNOWN,
        )

    def edited_at(self, local: Local) -> int:
        """When a row was changed here, on the share's clock."""
        column = self.where.rules.for_table(local.captured.table.name).updated_at
        mine, base = (self._image(local, row) or {} for row in (local.mine, local.base))
        return edited_at(
            stated=mine.get(column),
            stated_before=base.get(column),
            captured=local.at,
            offset=self.where.offset,
            now=self.where.now,
        )

    def _put(self, local: Local, image: Image | None, *, check: bool) -> None:
        """Write a row of ours over the log's, and note it as changed here against the log's; park it where it cannot be."""
        table = local.captured.table
        synced = self._base(local)
        row = None if image is None else tuple(image[column] for column in table.columns)
        if row is not None and (reason := self._refused(table, local.key, row, check=check)):
            self._insert_synced(local.captured, local.key, synced)
            self._park(local, reason)
            return
        if same(row, synced) and local.state != UNKNOWN:
            return
        known = local.place in self.theirs or local.state != UNKNOWN
        state = UNKNOWN if not known else PRESENT if synced is not None else ABSENT
        dirty.note(
            self.db,
            Local(local.captured, local.key, state, synced, row, local.at, local.stamp, local.decision),
        )

    def _refused(self, table: Table, key: Key, row: Row, *, check: bool) -> str | None:
        """Try to write a row of ours; why SQLite would not have it, or None when it is written."""
        if check:
            self.db.execute("PRAGMA ignore_check_constraints = OFF")
        try:
            self.db.execute(insert_sql(table), table.values(key, row))
        except sqlite3.IntegrityError as error:
            return str(error)
        finally:
            if check:
                self.db.execute("PRAGMA ignore_check_constraints = ON")
        return None

    def _park(self, local: Local, reason: str) -> None:
        self.tally.parked += 1
        if local.mine is not None:
            self.gone.setdefault(local.captured.table.name, set()).add(local.mine)
        self.tally.rebuild |= local.state == UNKNOWN and local.place not in self.theirs
        park(
            self.db,
            OpenConflict(
                id=0,
                at_ms=self.where.now,
                sequence=self.where.sequence,
                table=local.captured.table.name,
                key=local.key,
                reason=reason,
                base=self._image(local, local.base),
                mine=self._image(local, local.mine),
                theirs=self._image(local, self._base(local)),
                edited_at=self.edited_at(local),
            ),
        )

    def _keep(self, local: Local, outcome: str, how: str, result: Image | None, note: str = "") -> None:
        keep_decision(
            self.db,
            AuditRow(
                id=0,
                at_ms=self.where.now,
                sequence=self.where.sequence,
                table=local.captured.table.name,
                key=local.key,
                outcome=outcome,
                rule=how,
                base=self._image(local, local.base),
                mine=self._image(local, local.mine),
                theirs=self._image(local, self._base(local)),
                result=result,
                client=self.where.client,
                note=note,
            ),
        )

    def _image(self, local: Local, row: Row | None) -> Image | None:
        return None if row is None else dict(zip(local.captured.table.columns, row, strict=True))

    # -- numbers, parents and children -------------------------------------------------------------------------

    def _renumber(self) -> None:
        """Rows inserted here under a number that another machine gave to another row get a new one, and their children follow."""
        for local in list(self.lifted):
            if not self._is_another(local):
                continue
            around: list[Incoming | Local] = [*self.theirs.values(), *self.lifted]
            number = self.kin.free_number(local.captured, [i.key for i in around if i.captured.id == local.captured.id])
            if number is None:
                continue
            old = local.mine or ()
            new = self.kin.with_key(local.captured.table, (number,), old)
            self._keep(local, "renumbered", "inserts: renumber", self._image(local, new), note=f"new number {number}")
            self.tally.renumbered += 1
            local.key, local.mine = (number,), new
            self._lead_children(local.captured.table, old, new, depth=1)

    def _lead_children(self, table: Table, old: Row, new: Row, depth: int) -> None:
        """Rows changed here that refer to a row of ours whose key has changed refer to its new key."""
        for child, foreign in self.kin.children(table):
            before, after = (self.kin.pick(table, row, foreign.parent_columns) for row in (old, new))
            if before == after or None in before or depth > MAX_DEPTH:
                continue
            for key in self.kin.dirty_children(child, foreign, before):
                self._replaying = False
                self._evict(child, key, "")
                self._replaying = True
            for local in self.lifted:
                if local.captured.id != child.id or local.mine is None:
                    continue
                if self.kin.pick(child.table, local.mine, foreign.columns) == before:
                    was = local.mine
                    local.mine = self.kin.replaced(child.table, was, foreign.columns, after)
                    if local.state == ABSENT and not child.table.keyless:
                        local.key = self.kin.pick(child.table, local.mine, child.table.key)
                    self._lead_children(child.table, was, local.mine, depth + 1)

    def _is_another(self, local: Local) -> bool:
        """Whether this row and the log's are two rows that were given one number."""
        table, theirs = local.captured.table, self.theirs.get(local.place)
        return (
            table.numbered
            and local.state == ABSENT
            and local.mine is not None
            and theirs is not None
            and theirs.row is not None
            and theirs.row != local.mine
            and self.where.rules.for_table(table.name).inserts == "renumber"
        )

    def _park_orphans(self) -> None:
        """Rows changed here whose parent is gone, deleted by the log or parked, wait for a person; they would refer to nothing."""
        parked = -1
        while parked != self.tally.parked:
            parked = self.tally.parked
            for child, foreign, parent in self.kin.references():
                lost = self.gone.get(parent.table.name)
                for key, values in self.kin.dirty_values(child, foreign) if lost else ():
                    left = {self.kin.pick(parent.table, row, foreign.parent_columns) for row in lost or ()}
                    if values in left and not self.kin.exists(parent.table, foreign.parent_columns, values):
                        self._evict(
                            child, key, f"{parent.table.name} {_words(values)}, which it belongs to, is not there"
                        )

    def _restore_parents(self, incoming: list[Incoming]) -> None:
        """A row deleted here to which the log's new rows refer is put back; its deletion waits for a person."""
        for child, group in _grouped(incoming):
            for foreign, parent in self.kin.parents(child):
                if not self.db.execute(f"SELECT 1 FROM {parent.dirty} LIMIT 1").fetchone():
                    continue
                for item in group:
                    values = self.kin.pick(child.table, item.row, foreign.columns) if item.row else (None,)
                    if None in values or self.kin.exists(parent.table, foreign.parent_columns, values):
                        continue
                    for key in self.kin.deleted(parent, foreign.parent_columns, values):
                        self._evict(parent, key, f"{child.table.name} {_words(item.key)} refers to it")


MAX_DEPTH = 50
"""How many generations of children are led to a new key."""


def _grouped(incoming: Iterable[Incoming]) -> list[tuple[Captured, list[Incoming]]]:
    groups: dict[int, tuple[Captured, list[Incoming]]] = {}
    for item in incoming:
        groups.setdefault(item.captured.id, (item.captured, []))[1].append(item)
    return list(groups.values())


def _signed(stamp: Stamp, client: str) -> Stamp:
    return Stamp(stamp.millis, stamp.counter, client)


def _words(values: Iterable[object]) -> str:
    return ", ".join(str(value) for value in values)

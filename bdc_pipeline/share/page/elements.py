"""The page's elements, and what its buttons do. What is shown comes from `facts.py`; what is done, `SharedDatabase` does."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from nicegui import run, ui

from bdc_pipeline.settings import SettingsError
from bdc_pipeline.share.errors import ShareError
from bdc_pipeline.share.page import facts
from bdc_pipeline.share.status import Light, Status, Sync

if TYPE_CHECKING:
    from bdc_pipeline.share.audit import OpenConflict
    from bdc_pipeline.share.database import SharedDatabase

REFRESH_SECONDS = 0.5

HISTORY = 200
"""Syncs in the plot."""

Took = Mapping[str, Any] | str


class CachePage:
    """One browser's page. Builds itself in NiceGUI's current slot, and refreshes itself until the browser leaves."""

    def __init__(self, database: SharedDatabase) -> None:
        self._database = database
        self._shown: dict[str, Any] = {}
        self._tiles: dict[str, ui.label] = {}

    def build(self) -> None:
        """Makes the elements and starts refreshing them."""
        ui.query("body").style("background: #f5f6f8")
        with ui.column().classes("w-full max-w-screen-lg mx-auto q-pa-md"):
            self._build_light()
            self._build_conflicts()
            self._build_history()
            self._build_places()
        ui.timer(REFRESH_SECONDS, self.refresh)

    async def refresh(self) -> None:
        """Reads the status and changes what has changed; the share is not asked."""
        found = await run.io_bound(self._read)
        if found is None:  # the page is being closed
            return
        status, history, conflicts = found
        self._show_light(status)
        for name, text in facts.tiles(status, int(time.time() * 1000)).items():
            self._tiles[name].set_text(text)
        self._when_changed("places", facts.places(status), self._show_places)
        self._when_changed("history", history, self._show_history)
        self._when_changed("conflicts", conflicts, self._show_conflicts)

    def _read(self) -> tuple[Status, list[Sync], list[OpenConflict]]:
        database = self._database
        return database.status(), database.history(HISTORY), database.conflicts()

    def _when_changed(self, name: str, value: Any, show: Callable[[Any], None]) -> None:
        # elements that are made anew on each refresh would take a click away from under the mouse
        if name not in self._shown or self._shown[name] != value:
            self._shown[name] = value
            show(value)

    # -- the light and the buttons -----------------------------------------------------------------------------

    def _build_light(self) -> None:
        with ui.card().classes("w-full"):
            with ui.row().classes("items-center w-full"):
                self._dot = ui.element("div").style("width: 28px; height: 28px; border-radius: 50%")
                self._word = ui.label().classes("text-h5").props("data-part=light")
                self._phase = ui.label().classes("text-grey-7")
                ui.space()
                ui.button("Sync now", on_click=self._sync).props("data-part=sync")
                ui.button("Clear cache", color="grey-7", on_click=self._ask_to_clear).props("data-part=clear")
            self._sentence = ui.label().props("data-part=sentence")
            with ui.row().classes("w-full q-gutter-lg items-end"):
                for name in ("pending writes", "open conflicts", "last sync", "interval"):
                    with ui.column().classes("gap-0"):
                        self._tiles[name] = ui.label("-").classes("text-h6").props(f"data-part={name.split()[0]}")
                        ui.label(name).classes("text-caption text-grey-7")
                ui.space()
                self._interval = (
                    ui.number("Sync every ... seconds", value=self._database.interval, min=0.1, max=86_400)
                    .classes("w-44")
                    .props("data-part=seconds")
                )
                ui.button("Set", on_click=self._set_interval).props("flat data-part=set")

    def _show_light(self, status: Status) -> None:
        self._dot.style(f"background: {facts.COLOURS[status.light]}")
        self._word.set_text(str(status.light))
        self._phase.set_text(status.phase)
        self._sentence.set_text(status.sentence)

    async def _sync(self) -> None:
        done: Sync | None = await self._tried(self._database.sync)
        if done is not None:
            good = done.light in (Light.SUCCESS, Light.PENDING)
            ui.notify(done.sentence or "Synced.", type="positive" if good else "warning")

    async def _set_interval(self) -> None:
        await self._tried(lambda: self._database.set_interval(self._interval.value), "The interval is set.")

    def _ask_to_clear(self) -> None:
        status = self._database.status()
        with ui.dialog() as dialog, ui.card():
            ui.label("The cache is removed and filled again from the share.")
            force = ui.switch("Throw writes away that have not reached the share").props("data-part=force")
            force.set_visibility(status.pending > 0)
            if status.pending:
                ui.label(status.sentence).classes("text-negative")
            with ui.row():

                async def clear() -> None:
                    dialog.close()
                    await self._tried(lambda: self._database.clear(force=force.value), "The cache is filled anew.")

                ui.button("Clear", color="negative", on_click=clear).props("data-part=clear-yes")
                ui.button("Leave it", on_click=dialog.close).props("flat")
        dialog.open()

    async def _tried(self, action: Callable[[], Any], done: str = "") -> Any:
        """Does something beside the page's own thread, and tells how it went."""
        try:
            result = await run.io_bound(action)
        except (ShareError, SettingsError) as error:
            ui.notify(str(error), type="negative", multi_line=True, timeout=15_000)
            return None
        if done:
            ui.notify(done, type="positive")
        await self.refresh()
        return result

    # -- conflicts ---------------------------------------------------------------------------------------------

    def _build_conflicts(self) -> None:
        self._conflicts = ui.column().classes("w-full").props("data-part=conflicts")

    def _show_conflicts(self, conflicts: list[OpenConflict]) -> None:
        self._conflicts.clear()
        with self._conflicts:
            for conflict in conflicts:
                self._show_conflict(conflict)

    def _show_conflict(self, conflict: OpenConflict) -> None:
        with ui.card().classes("w-full").props(f"data-conflict={conflict.id}"):
            ui.label(f"{conflict.table} {', '.join(facts.text_of(part) for part in conflict.key)}").classes("text-h6")
            ui.label(conflict.reason).classes("text-grey-7")
            rows = facts.fields(conflict.base, conflict.mine, conflict.theirs)
            chosen = self._show_fields(rows, mixes=conflict.mine is not None and conflict.theirs is not None)

            def mix() -> dict[str, Any]:
                sides = {"mine": conflict.mine or {}, "theirs": conflict.theirs or {}}
                return {**sides["theirs"], **{name: sides[toggle.value][name] for name, toggle in chosen.items()}}

            with ui.row():
                self._choice("Keep mine", conflict.id, lambda: "mine")
                self._choice("Keep theirs", conflict.id, lambda: "theirs")
                if chosen:
                    self._choice("Keep what is chosen above", conflict.id, mix)

    @staticmethod
    def _show_fields(rows: list[dict[str, Any]], *, mixes: bool) -> dict[str, ui.toggle]:
        chosen: dict[str, ui.toggle] = {}
        with ui.grid(columns=5).classes("w-full items-center gap-1"):
            for title in ("column", "before", "mine", "theirs", ""):
                ui.label(title).classes("text-caption text-grey-7")
            for row in rows:
                weight = "text-weight-bold" if row["differs"] else ""
                for side in ("column", "base", "mine", "theirs"):
                    ui.label(row[side]).classes(weight).props(f"data-side={side}")
                if row["differs"] and mixes:
                    chosen[row["column"]] = ui.toggle(["mine", "theirs"], value="theirs").props("dense")
                else:
                    ui.label("")
        return chosen

    def _choice(self, title: str, number: int, take: Callable[[], Took]) -> None:
        async def resolve() -> None:
            await self._tried(lambda: self._database.resolve(number, take()), f"Done: {title.lower()}.")

        click: Callable[[], Awaitable[None]] = resolve
        ui.button(title, on_click=click).props("outline")

    # -- history and places ------------------------------------------------------------------------------------

    def _build_history(self) -> None:
        columns = [
            {"name": name, "label": name, "field": name, "align": "left"}
            for name in ("at", "light", "duration", "rows", "bytes", "conflicts", "sentence")
        ]
        with ui.card().classes("w-full"):
            ui.label("Syncs").classes("text-h6")
            self._plot = ui.echart(facts.history_plot([])).classes("w-full").style("height: 440px")
            with ui.expansion("The last ones").classes("w-full"):
                self._table = ui.table(columns=columns, rows=[], row_key="at").classes("w-full").props("dense flat")

    def _show_history(self, history: list[Sync]) -> None:
        self._plot.options.clear()
        self._plot.options.update(facts.history_plot(history))
        self._plot.update()
        self._table.rows = facts.history_rows(history)

    def _build_places(self) -> None:
        columns = [
            {"name": name, "label": name, "field": name, "align": "left"} for name in ("what", "where", "size", "note")
        ]
        with ui.card().classes("w-full"):
            ui.label("Files").classes("text-h6")
            self._places = ui.table(columns=columns, rows=[], row_key="what").classes("w-full").props("dense flat")

    def _show_places(self, places: list[dict[str, str]]) -> None:
        self._places.rows = places

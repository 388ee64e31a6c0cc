"""Lists of a project's pipelines while they are read: what has come of them, and whether that is all."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

from bdc_pipeline.sources.gitlab.client import PAGE_SIZE, Chain, Page
from bdc_pipeline.sources.gitlab.windows import Window
from bdc_pipeline.warehouse.stream import Reject


@dataclass(slots=True)
class ListedPage:
    """What a page of a list brought: the ids of its pipelines, how many are stored as they are, rejects, and how many records have no
    id that could be read."""

    page: Page
    ids: list[Any] = field(default_factory=list)
    same: int = 0
    rejects: list[Reject] = field(default_factory=list)
    unread: int = 0


@dataclass(slots=True)
class PipelineList:
    """A list of a project's pipelines. What came is noted by the thread that writes, but for `unknown`, which those that fetch note.

    Args:
        window: from when to when, and of which days.
        children: it is the list of child pipelines, which the other one leaves out.
        swept: it is only compared with what is stored, of a day that was over.
        total: how many GitLab counts; None as long as it has told none.
        counted: every page has told a total.
        ids: what came.
        at: the server's time at the first answer.
        failed: a page did not come.
        unread: records without an id that could be read.
        chain: the pages that were followed by their links.
        unknown: by day the pipelines that a list that is only compared has and the file has not.
    """

    window: Window
    children: bool
    swept: bool = False
    total: int | None = None
    counted: bool = True
    ids: set[Any] = field(default_factory=set)
    at: dt.datetime | None = None
    failed: bool = False
    unread: int = 0
    chain: Chain = field(default_factory=lambda: Chain("pipelines"))
    unknown: dict[str, set[int]] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """How it is called in messages."""
        return f"project {self.window.name} {'child ' * self.children}pipelines"

    @property
    def path(self) -> str:
        """Its address below the API's."""
        return f"projects/{self.window.project_id}/pipelines"

    @property
    def is_short(self) -> bool:
        """Whether fewer have come than GitLab counts."""
        return not self.failed and self.total is not None and len(self.ids) + self.unread < self.total

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of its first page, oldest pipelines first: what is new comes at the end, and moves nothing."""
        params: dict[str, Any] = {
            "updated_after": self.window.after,
            "order_by": "id",
            "sort": "asc",
            "per_page": PAGE_SIZE,
        }
        if self.window.before is not None:
            params["updated_before"] = self.window.before
        if self.children:
            params["source"] = "parent_pipeline"
        return params

    def begin_again(self) -> None:
        """Forgets what came: it is read through once more."""
        self.ids, self.unread, self.total, self.chain = set(), 0, None, Chain("pipelines")

    def take(self, listed: ListedPage) -> None:
        """Counts a page."""
        page = listed.page
        self.ids.update(listed.ids)
        self.unread += listed.unread
        self.at = min(self.at, page.at) if self.at is not None else page.at
        self.counted = self.counted and page.total is not None
        if page.total is not None:
            # one that was deleted meanwhile makes the count smaller, and has moved another one to a page that was read before
            self.total = max(page.total, self.total or 0)

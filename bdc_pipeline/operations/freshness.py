"""Freshness policies and owners, put on every asset in one place.

A policy is of an asset as a whole: one fresh partition makes all of it pass. Which partitions are stale is told by the check
`current` (see `checks.py`).
"""

import logging
from collections.abc import Sequence

import dagster as dg

from bdc_pipeline.operations import windows
from bdc_pipeline.operations.facts import Watched, Window
from bdc_pipeline.operations.windows import Windows

LOG = logging.getLogger("bdc_pipeline")


def policy_of(window: Window) -> dg.FreshnessPolicy:
    """A window as Dagster knows it."""
    return dg.FreshnessPolicy.time_window(fail_window=window.fail, warn_window=window.warn)


def watched_over(
    definitions: Sequence[dg.AssetsDefinition], watched: Sequence[Watched], chosen: Windows
) -> list[dg.AssetsDefinition]:
    """The same assets, with a freshness policy and owners on each of a watched source."""
    owners, problems = dict[str, list[str]](), list(chosen.problems)
    for one in watched:
        owners[one.source], wrong = windows.owners(one.owner)
        problems += wrong
    for problem in dict.fromkeys(problems):
        LOG.warning("%s", problem.says)

    def described(spec: dg.AssetSpec) -> dg.AssetSpec:
        source, *rest = spec.key.path
        if source not in owners:
            return spec
        spec = spec.replace_attributes(owners=spec.owners or owners[source])
        policed: dg.AssetSpec = dg.apply_freshness_policy(spec, policy_of(chosen.of(source, "/".join(rest))))
        return policed

    # of `Definitions.map_resolved_asset_specs`, which does the same, Dagster warns as of a preview
    return list(dg.map_asset_specs(described, definitions))

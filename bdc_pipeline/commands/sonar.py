"""`bdc-pipeline sync sonar`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from bdc_pipeline import settings
from bdc_pipeline.commands.options import HELP, sync_options
from bdc_pipeline.commands.outcome import database_of, run_sync, told_in_sentences

if TYPE_CHECKING:
    from bdc_pipeline.progress import OnProgress
    from bdc_pipeline.warehouse.ledger import SyncReport


@click.command("sonar", context_settings=HELP)
@sync_options()
@click.option("--from", "first", type=click.IntRange(0), help="Only blocks from the one that holds this id on.")
@click.option("--to", "last", type=click.IntRange(0), help="Only blocks up to the one that holds this id.")
@click.option("--customers-only", is_flag=True, help="Leave the inventory out.")
@click.option("--inventory-only", is_flag=True, help="Leave the customers out.")
def sync_sonar(**options: Any) -> NoReturn:
    """Customers and inventory of a Sonar instance, into bdc_cache.db.

    SONAR_URL and SONAR_TOKEN say which instance. Partitions are blocks of a thousand ids: --partition 2000-2999.
    """
    if options["customers_only"] and options["inventory_only"]:
        raise click.UsageError("--customers-only and --inventory-only leave nothing to sync; give one of them.")
    if options["partitions"] and (options["first"], options["last"]) != (None, None):
        raise click.UsageError("--partition names the blocks; leave --from and --to out, or it.")
    if options["first"] is not None and options["last"] is not None and options["first"] > options["last"]:
        raise click.UsageError(f"--from {options['first']} lies behind --to {options['last']}; no block is in between.")
    database = database_of("sonar", options["database"])
    with told_in_sentences():
        found = settings.sonar()

    def sync(on_progress: OnProgress, started: float) -> SyncReport:
        return _sync(options, database, on_progress, started)

    run_sync("sonar", sync, database=database, options=options, secrets=[found.token])


def _sync(options: dict[str, Any], database: Path, on_progress: OnProgress, started: float) -> SyncReport:
    from bdc_pipeline.sources.assembly import drain_options  # noqa: PLC0415
    from bdc_pipeline.sources.sonar import assets, command  # noqa: PLC0415
    from bdc_pipeline.sources.sonar.tables import BLOCK  # noqa: PLC0415
    from bdc_pipeline.warehouse.partitioning import IdBlocks  # noqa: PLC0415

    for key in options["partitions"]:
        try:
            IdBlocks("id", BLOCK).bounds(key)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--partition") from None
    asked = command.SonarSync(
        database=database,
        resource=assets.SonarResource(workers=options["workers"], page_size=options["batch_size"]),
        config=assets.SonarSyncConfig(force=options["force"], days=options["days"], limit=options["limit"]),
        drain=drain_options(options),
        partitions=options["partitions"],
        between=_range(options["first"], options["last"]),
        customers=not options["inventory_only"],
        inventory=not options["customers_only"],
    )
    try:
        return command.sync(asked, on_progress, started)
    except command.NoBlocks as nothing:
        raise click.UsageError(str(nothing)) from None


def _range(first: int | None, last: int | None) -> tuple[int, int] | None:
    return None if first is None and last is None else (first or 0, sys.maxsize if last is None else last)

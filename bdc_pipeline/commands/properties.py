"""`bdc-pipeline sync properties`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from bdc_pipeline import settings
from bdc_pipeline.commands.options import HELP, sync_options
from bdc_pipeline.commands.outcome import LOG, database_of, run_sync, told_in_sentences
from bdc_pipeline.sources.properties.places import ADDRESS_TYPES, ALL, UnknownMunicipality, find_place

if TYPE_CHECKING:
    from bdc_pipeline.progress import OnProgress
    from bdc_pipeline.warehouse.ledger import SyncReport

LARGEST_PAGE = 50


@click.command("properties", context_settings=HELP)
@sync_options(
    workers="12",
    batch_size=LARGEST_PAGE,
    batch_help="Homes to ask for in one request; Boligsiden gives 50 at most.",
    days_help="Walk through a municipality whose last walk is older; a younger one costs one request, if its number of homes "
    "is the same.",
    limit_help="At most so many homes, for a try.",
    force_help="Walk through every municipality.",
    partition_help="Only this municipality, by code or name; repeatable.",
)
@click.option(
    "-m",
    "--municipality",
    "municipalities",
    multiple=True,
    metavar="NAME|CODE",
    help="The same as --partition; repeatable.",
)
@click.option(
    "-t",
    "--address-type",
    "address_types",
    multiple=True,
    type=click.Choice([*ADDRESS_TYPES, ALL]),
    help="Type of homes; repeatable. Types that a municipality's copy holds are listed too, so that none of its homes passes "
    "for vanished. By default those, and villa where it holds none.",
)
@click.option("--parallel", is_flag=True, help="Accepted for older scripts: requests always run side by side.")
def sync_properties(**options: Any) -> NoReturn:
    """Danish homes of 36 municipalities around Copenhagen, into properties.db.

    Boligsiden's public API is asked, BOLIGSIDEN_REQUESTS_PER_SECOND times a second at most. Partitions are municipalities:
    --partition 0101 or --municipality København.
    """
    codes = _codes("--partition", options["partitions"]) + _codes("--municipality", options["municipalities"])
    database = database_of("properties", options["database"])
    with told_in_sentences():
        settings.properties()

    def sync(on_progress: OnProgress, started: float) -> SyncReport:
        return _sync(options, codes, database, on_progress, started)

    run_sync("properties", sync, database=database, options=options)


def _codes(option: str, given: tuple[str, ...]) -> list[str]:
    try:
        return [find_place(text).code for text in given]
    except UnknownMunicipality as error:
        raise click.BadParameter(str(error), param_hint=option) from None


def _sync(
    options: dict[str, Any], codes: list[str], database: Path, on_progress: OnProgress, started: float
) -> SyncReport:
    from bdc_pipeline.sources.assembly import drain_options  # noqa: PLC0415
    from bdc_pipeline.sources.properties import assets, command  # noqa: PLC0415

    if options["batch_size"] > LARGEST_PAGE:
        LOG.warning("--batch-size %s: Boligsiden gives %s homes a page at most", options["batch_size"], LARGEST_PAGE)
    workers = options["workers"] or assets.WORKERS
    LOG.info("%s", command.told_workers(workers, settings.properties().requests_per_second))
    asked = command.PropertiesSync(
        database=database,
        resource=assets.BoligsidenResource(workers=workers, page_size=min(options["batch_size"], LARGEST_PAGE)),
        config=assets.PropertiesSyncConfig(
            force=options["force"],
            days=options["days"],
            limit=options["limit"],
            address_types=list(options["address_types"]),
        ),
        drain=drain_options(options),
        partitions=codes,
    )
    return command.sync(asked, on_progress, started)

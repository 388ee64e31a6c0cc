"""`python -m bdc_pipeline`: the same as the command `bdc-pipeline`."""

from bdc_pipeline.cli import main

main()

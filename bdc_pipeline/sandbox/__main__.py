"""`python -m bdc_pipeline.sandbox`: see `command.py`."""

from bdc_pipeline.sandbox.command import command

if __name__ == "__main__":
    command(prog_name="python -m bdc_pipeline.sandbox")

"""The APIs served on loopback from generated data, with latency, limits and faults on demand.

`options.py` says what can be asked for, `frame.py` and `acting.py` are what all sources share, `server.py` runs it, `handle.py`
holds it from tests and benchmarks, `command.py` is its command line. Each source is a subpackage. Nothing else in the project
imports this one but the command line, tests and benchmarks.
"""

from bdc_pipeline.sandbox.command import command
from bdc_pipeline.sandbox.handle import Sandbox, running, running_in_thread
from bdc_pipeline.sandbox.options import Fault, PagingChange, SandboxOptions
from bdc_pipeline.sandbox.server import serve

__all__ = [
    "Fault",
    "PagingChange",
    "Sandbox",
    "SandboxOptions",
    "command",
    "running",
    "running_in_thread",
    "serve",
]

"""Sonar's GraphQL v2 API from generated data.

`schema.graphql` and `schema.py` say what there is, `generate.py` makes the rows and `columns.py` their values from
`catalogue.py`, `tables.py` holds them, `select.py` and `execute.py` answer queries, `changes.py` changes rows, `api.py` is the
HTTP side.
"""

from bdc_pipeline.sandbox.sonar.api import SonarSource

__all__ = ["SonarSource"]

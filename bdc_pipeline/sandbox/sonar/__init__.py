"""Sonar's GraphQL v2 API from generated data.

`schema.graphql` and `schema.py` say what there is, `generate.py` and `tables.py` hold it, `select.py` and `execute.py` answer
queries, `changes.py` changes rows, `api.py` is the HTTP side.
"""

from bdc_pipeline.sandbox.sonar.api import SonarSource

__all__ = ["SonarSource"]

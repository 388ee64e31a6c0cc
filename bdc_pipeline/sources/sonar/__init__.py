"""Sonar, an internet provider's billing and inventory system, by its GraphQL API."""

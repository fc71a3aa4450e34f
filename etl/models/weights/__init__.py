"""Upstream checkpoints on their way into a lake's model store: downloaded, checked, converted, verified.

The one place of ``etl.models`` that reaches a network, and only when ``groundlake models pull`` calls it.
"""

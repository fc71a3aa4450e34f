"""Url lists to content-addressed shards to img2dataset to the ledger."""

"""Scores of annotators against ground truth in the lake."""

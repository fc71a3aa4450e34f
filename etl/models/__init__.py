"""Networks and their weights; knows neither the lake nor Airflow, and never reaches a network."""

import os

# Read when transformers is first imported: weights come from the lake's model store only.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

"""Networks and their weights; knows neither the lake nor Airflow. Only ``etl.models.weights`` reaches the web."""

import os

# Read when transformers is first imported: weights come from the lake's model store only.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Read when torch is first imported: by default its threads burn their core while they wait for each other, which on a
# machine shared with other processes was measured to make small networks thirty times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

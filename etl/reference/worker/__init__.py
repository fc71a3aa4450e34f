"""What runs in the reference interpreter: upstream's networks, kept in memory, and questions to them.

Nothing of groundlake is imported here: what these files compute with is upstream's code, torch and numpy only. They
are started by their path (``python -I …/worker/__main__.py``), which gives them the name ``groundlake_worker``.
"""

"""Makes ``tests/handmade.py`` importable: the test folders are no packages."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

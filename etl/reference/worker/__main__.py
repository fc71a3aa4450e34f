"""Start the worker from its path, as a package, without a word in ``sys.path``."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

NAME = "groundlake_worker"


def main() -> None:
    """Give this folder a name, so that its modules find each other, and serve."""
    folder = Path(__file__).resolve().parent
    spec = spec_from_file_location(NAME, folder / "__init__.py", submodule_search_locations=[str(folder)])
    if spec is None or spec.loader is None:
        raise SystemExit(f"{folder} is no package")
    package = module_from_spec(spec)
    sys.modules[NAME] = package
    spec.loader.exec_module(package)
    import_module(f"{NAME}.serve").main()


if __name__ == "__main__":
    main()

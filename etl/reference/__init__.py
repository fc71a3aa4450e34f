"""The reference engines: upstream's own packages, in an environment of their own, asked the same questions as ours.

They need older releases of what we use, so they are never imported here: ``worker.py`` runs in that environment's
interpreter, and files go to and fro. ``make test-reference`` builds the environment.
"""

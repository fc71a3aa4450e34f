"""The reference engines: upstream's own packages, in an environment of their own, asked the same questions as ours.

They need older releases of what we use, so they are never imported here: ``worker`` runs in that environment's
interpreter, holds a network there, and answers what it is asked through its pipes. ``make reference`` builds the
environment. ``engines`` puts them behind the contracts that stages use; ``parity`` compares them with ours.
"""

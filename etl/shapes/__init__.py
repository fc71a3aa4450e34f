"""The offline world: scenes with known truth, and small networks of the real architectures that are good at it."""

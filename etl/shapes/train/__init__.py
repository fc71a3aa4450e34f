"""Training of the small networks on the world of shapes: seeded, resumable, on a CPU in hours."""

"""What is computed (tag, ground, caption, embed) and the one runner that drives it."""

"""Pictures for people: boxes, masks and captions drawn, contact sheets."""

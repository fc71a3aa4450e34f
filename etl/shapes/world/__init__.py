"""Seeded scenes of coloured, textured shapes, whose tags, boxes, masks and captions are known."""

"""groundlake: image url lists in, tags, boxes, masks and captions in Delta, training manifests out."""

__version__ = "0.1.0"

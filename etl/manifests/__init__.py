"""SQL over the lake to versioned training manifests, one file per format."""

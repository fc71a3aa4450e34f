"""Scenes as files: encoded as pictures on the web are, the awkward ones among them, and their truth as COCO."""

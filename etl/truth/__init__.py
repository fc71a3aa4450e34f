"""Ground truth of datasets, landed in the same tables as what networks say, by annotators of kind ``dataset``."""

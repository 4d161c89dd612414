"""The network of the paper: towers, selection, prompts, fusion. Knows nothing of data or training."""

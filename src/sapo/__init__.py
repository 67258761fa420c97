"""State-adaptive prompt optimization for continual fine-tuning: the library of the pipeline's stages."""

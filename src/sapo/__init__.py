"""State-adaptive prompt optimization for continual fine-tuning: the library that the pipeline's stages share."""

"""What the model answers: greedy generation here, or in vLLM."""

"""The stack of LoRA blocks, and the model as it is now."""

"""The loss of a prompt, searches for the lowest one, and selectors."""

"""Results as one HTML file that needs nothing else: of a run, and of several side by side."""

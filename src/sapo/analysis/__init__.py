"""From scores to conclusions: metrics, intervals, comparisons, figures."""

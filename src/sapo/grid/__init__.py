"""Many experiments on many machines: cells, which stages they share, clones, Ray."""

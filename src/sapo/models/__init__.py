"""The base model: how `models/base` is made, how it is loaded, and which processes and devices run it."""

"""Where a task's candidate instructions come from.

A source is a function (task, count) -> list of paraphrases; `bank` is the one that needs no language model.
Whatever the source, `checks` decides which candidates may be used.
"""

"""Where candidate instructions come from: the `bank`, the user's own file, or a language model's `api`.

Whatever the source, `checks` decides which candidates may be used.
"""

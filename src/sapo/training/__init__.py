"""One task's training.

It is apart from the rest, so that a change here leaves zero-shot, selection and answers as they are.
"""

"""One task's training. Apart from the rest, so that a change here leaves zero-shot, selection and answers as they are."""

"""From texts to tokens: the chat template, cutting, batches, and the prefix that all rows share."""

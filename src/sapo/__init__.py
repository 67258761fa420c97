"""State-adaptive prompt optimization for continual fine-tuning: the library that the pipeline's stages share."""

from sapo.orphans import end_with_starters

end_with_starters()  # here, since a stage's other imports take seconds in which DVC may be killed

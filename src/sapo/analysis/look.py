"""How results look: colours, markers, labels and captions of the PNGs, of the page and of DVC's plots.

The templates in .dvc/plots/ and `plots` in dvc.yaml repeat them, since DVC reads nothing else: a test
compares.
"""

# Okabe and Ito's palette (2008), with a marker each for prints in grey: matplotlib's and Vega's name of it
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
SHAPES = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "wedge"]
ORIGINAL, PARAPHRASE = COLOURS[1], COLOURS[4]  # candidates
SCALE = "cividis"  # of a matrix
DARK = 0.55  # a matrix's cells below this part of the scale have white numbers, the others black ones

STAGE = "model after stage"
TASK = "evaluated task"
STEP = "optimiser step"
LOSS = "loss (nats a token)"
CANDIDATE_LOSS = "loss of the task's rows before training on it (nats a token)"

MATRIX = "{metric} of each task (column) after each stage (row)"
STAGES = "Each task's {metric} over the stages"
CANDIDATES = "Loss of each candidate instruction before its task is trained"
TRAINING = "Training loss of each task"
COVERED = "[ ]: 95 % interval over the choice of test rows; other seeds are not in it"
BARS = COVERED.replace("[ ]", "bars")

# In a few words; docs/methods.md has the formulas
MEANINGS = {
    "AP": "mean score at the end",
    "BWT": "what later tasks did to earlier ones",
    "FWT": "what earlier tasks did for later ones, before these were trained",
    "forgetting": "loss since each task's best score; lower is better",
    "new_task": "score right after training",
    "unseen": "score at the end on tasks that are never trained",
    "unseen_change": "the same, less the base model's",
    "BWT_final": "BWT of the last stage alone",
}

"""Numbers that a command's help states and the code behind it uses: here, so that help need not import that code."""

TRIM = 0.03  # ki of a trim that is not given
# Exported agents: on bad input, in steps.
HOLD_STEPS, STALE_STEPS = 3, 12
FORMATS = ("npz", "onnx")
PARITY_STEPS = 10_000  # environment steps of the comparison with the trainer's agents, at least
PARTS = ("table", "radii", "battles", "counterexample")  # of the study of the paper
HOST, PORT = "127.0.0.1", 8421  # of the first agent that is served

"""Many runs: the Python API of training, sweeps, the paper's study, the demo."""

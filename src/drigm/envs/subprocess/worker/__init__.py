"""What runs in the processes of environments that are not written in JAX.

This package imports nothing of drigm and needs numpy only, so that an environment can live in a virtual environment of
its own: `worker` is started by its file name, with that environment's interpreter.
"""

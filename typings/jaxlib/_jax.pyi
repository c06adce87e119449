"""jaxlib's extension module has no stubs; without its Device, signatures all over jax.numpy are partly unknown."""

from typing import Any

class Device:
    def __getattr__(self, name: str) -> Any: ...

def __getattr__(name: str) -> Any: ...

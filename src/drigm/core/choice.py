"""A factorization or an uncertainty set as Python code chooses it: the record or its name, with its settings."""

from __future__ import annotations

from typing import Any, NamedTuple


class Choice(NamedTuple):
    """A factorization or an uncertainty set with its settings; make one with `drigm.VDN`, `drigm.TotalVariation`, ...

    A record of one's own makes one when it is called, as in ``MySet(rho=0.1)``.

    Attributes:
        field: ``factorization`` or ``uncertainty``.
        chosen: a name, or the record itself.
        settings: of `drigm.core.config.TrainConfig`; those that are None are left to the preset, then to the default.
    """

    field: str
    chosen: Any
    settings: dict[str, Any]

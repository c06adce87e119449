"""``drigm list``."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from drigm.core.errors import UserError
from drigm.core.plugins import load_plugins, origins
from drigm.core.presets import PRESETS

if TYPE_CHECKING:
    from drigm.envs import Kind

DEFAULT_ENV = "building:OfficeSmall/Tucson"


def add(commands: Any) -> None:
    """Add the command to the subparsers ``commands``."""
    listing = commands.add_parser(
        "list", help="environments, factorizations, uncertainty sets, baselines, presets, shifts"
    )
    listing.add_argument("--json", action="store_true", help="as one JSON object")
    listing.set_defaults(run=_list)


def _list(options: argparse.Namespace) -> int:
    """Everything that can be named. Environments whose package is missing say how to install it."""
    from drigm.algorithms.baselines import BASELINES
    from drigm.algorithms.factorizations import FACTORIZATIONS
    from drigm.algorithms.uncertainty import SETS
    from drigm.envs import KINDS, make_env
    from drigm.envs.jaxmarl import smax
    from drigm.envs.perturbations import PERTURBATIONS
    from drigm.envs.shifts import suite_names
    from drigm.envs.supply.options import PARAMETERS as SUPPLY
    from drigm.storage.loggers import LOGGERS

    load_plugins()
    kinds = {name: {"pattern": kind.pattern, "parts": _parts(kind)} for name, kind in KINDS.items()}
    building, chain = make_env(DEFAULT_ENV), make_env("supply:serial4")
    perturbations = {name: kind.about for name, kind in PERTURBATIONS.items()}
    physical = {**building.parameters, **smax.PARAMETERS, **SUPPLY}
    everything = {
        "environments": kinds,
        "factorizations": list(FACTORIZATIONS),
        "uncertainty_sets": list(SETS),
        "baselines": {name: baseline.about for name, baseline in BASELINES.items()},
        "perturbations": perturbations | {name: parameter.about for name, parameter in physical.items()},
        "loggers": {name: logger.about for name, logger in LOGGERS.items()},
        "presets": list(PRESETS),
        "shifts": sorted({*suite_names(building), *suite_names(chain)}),
        "plugins": _plugins(),
    }
    if options.json:
        print(json.dumps(everything, indent=2))
        return 0
    for kind in kinds.values():
        print(f"environments      {kind['pattern']}")
        for part, names in kind["parts"].items():
            print(f"  {part:<15} {' '.join(names)}")
    for title in ("baselines", "perturbations", "loggers"):
        for name, about in everything[title].items():
            print(f"{title[:-1]:<17} {name:<21} {about}")
    for title in ("factorizations", "uncertainty_sets", "presets", "shifts"):
        print(f"{title.replace('_', ' '):<17} {' '.join(everything[title])}")
    for package, names in everything["plugins"].items():
        for field, name in names:
            print(f"{'plug-in':<17} {package:<21} {field} {name}")
    return 0


def _plugins() -> dict[str, list[tuple[str, str]]]:
    """Return the (field, name) that each package brought."""
    brought: dict[str, list[tuple[str, str]]] = {}
    for key, package in origins().items():
        brought.setdefault(package, []).append(key)
    return brought


def _parts(kind: Kind) -> dict[str, list[str]]:
    try:
        return kind.parts()
    except UserError as missing:
        return {"(not installed)": [str(missing)]}

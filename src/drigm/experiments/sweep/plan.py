"""From the points of a sweep to run directories and programs, and back from the folder: what is done, what is left.

::

    FOLDER/sweep.json      the plan: settings of every point, and which points train as one program
    FOLDER/POINT/          one run directory per point, named after what differs
    FOLDER/scores.csv      what came out
    FOLDER/logs/           what each program said, and the lock of whoever trains it
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from drigm.core.config import FIELDS, TrainConfig, essential, from_dict
from drigm.core.errors import UserError
from drigm.core.json_files import read_object
from drigm.core.strengths import parse_grid
from drigm.evaluation.cache import stored_evaluation
from drigm.evaluation.scores import Evaluation
from drigm.experiments.sweep.pruning import Pruning
from drigm.experiments.sweep.spec import Scoring, Sweep
from drigm.runtime.files import make_folder, write_text
from drigm.storage.run_directory import RunDirectory
from drigm.training.loop import shared

FORMAT = "drigm-sweep-1"


class Plan(NamedTuple):
    """A sweep in its folder.

    Attributes:
        folder: absolute; on a cluster, on a file system that all machines share.
        points: config by name of its run directory.
        programs: names of the points that train as one program.
        scoring: None if points are only trained.
        prune: None if every training goes to its end.
    """

    folder: Path
    points: dict[str, TrainConfig]
    programs: list[list[str]]
    scoring: Scoring | None
    prune: Pruning | None = None

    def directory(self, point: str) -> RunDirectory:
        return RunDirectory(self.folder / point)

    def evaluation(self, point: str) -> Evaluation | None:
        """Return the scores that stand in the point's run directory."""
        if self.scoring is None:
            return None
        perturb = parse_grid(self.scoring.perturb)
        config = self.points[point]
        where = self.directory(point), config, self.scoring.shifts, perturb, config.env
        return stored_evaluation(*where, self.scoring.trim, self.scoring.drawn)

    def is_finished(self, point: str) -> bool:
        """Whether ``point`` is trained and, where that is asked for and it was not pruned, scored."""
        directory = self.directory(point)
        trained = directory.is_finished(self.points[point]) and not directory.diverged()
        return trained and (self.scoring is None or self.is_pruned(point) or self.evaluation(point) is not None)

    def is_pruned(self, point: str) -> bool:
        """Whether the training of ``point``, which has finished, was ended before its time."""
        pruned = self.prune is not None and self.prune.against != point
        return pruned and self.directory(point).stopped_file.exists()

    def reference(self) -> int | None:
        """Return the program of the point that others are pruned against, which therefore comes first."""
        if self.prune is None:
            return None
        return next(i for i, names in enumerate(self.programs) if self.prune.against in names)

    def log_file(self, program: int) -> Path:
        return self.folder / "logs" / f"program-{program}.log"

    def lock_file(self, program: int) -> Path:
        return self.folder / "logs" / f"program-{program}.lock"


def make_plan(sweep: Sweep, folder: Path) -> Plan:
    """Return the plan of ``sweep`` in ``folder``, and write it there; it takes runs that stand there as they are.

    It replaces any other plan there: whoever may share the folder must hold it (`drigm.runtime.files.hold`).

    Raises:
        UserError: the folder cannot be made.
    """
    folder = folder.resolve()
    make_folder(folder / "logs")
    points = _named(sweep, folder)
    plan = Plan(folder, points, group(points, sweep.together), sweep.scoring, _against(sweep, points))
    content = {
        "format": FORMAT,
        "name": sweep.name,
        "drigm": version("drigm"),
        "evaluate": None if plan.scoring is None else plan.scoring._asdict(),
        "prune": None if plan.prune is None else plan.prune._asdict(),
        "programs": plan.programs,
        "points": {name: dataclasses.asdict(config) for name, config in points.items()},
    }
    write_text(plan.folder / "sweep.json", json.dumps(content, indent=2))
    return plan


def load_plan(folder: Path) -> Plan:
    """Return the plan that `make_plan` wrote; `UserError` if there is none, as on a machine that does not see it."""
    try:
        content = read_object(folder / "sweep.json")
        points = {name: from_dict(settings) for name, settings in content["points"].items()}
        scoring = None if content["evaluate"] is None else Scoring(**content["evaluate"])
        prune = None if content.get("prune") is None else Pruning(**content["prune"])
        return Plan(folder, points, content["programs"], scoring, prune)
    except (ValueError, KeyError, TypeError, AttributeError):
        message = "every machine of a cluster must see the sweep's folder under the same path"
        raise UserError(f"sweep: {str(folder / 'sweep.json')!r} cannot be read; {message}.") from None


def group(points: dict[str, TrainConfig], together: int = 0) -> list[list[str]]:
    """Return the names of the points that can train as one program, at most ``together`` (0: any number) at a time.

    It depends on the points alone, not on machine or engine: another grouping gives other numbers, by rounding.
    """
    alike: dict[TrainConfig, list[str]] = {}
    for name, config in points.items():
        alike.setdefault(shared(config), []).append(name)
    size = together or len(points)
    return [names[i : i + size] for names in alike.values() for i in range(0, len(names), size)]


def differing(configs: Sequence[TrainConfig]) -> list[str]:
    """Return the settings in which ``configs`` differ."""
    return [name for name in FIELDS if len({getattr(config, name) for config in configs}) > 1]


def _named(sweep: Sweep, folder: Path) -> dict[str, TrainConfig]:
    """Name every config: after the run in ``folder`` that has these settings, else as the file or what differs says."""
    there = {path.name: essential(config) for path in sorted(folder.iterdir()) if (config := _config_in(path))}
    taken = {"logs", *(path.name for path in folder.iterdir() if RunDirectory(path).is_taken())}
    settings, names = differing(sweep.configs), {}
    for config in sweep.configs:
        name = next((n for n, settings in there.items() if settings == essential(config) and n not in names), None)
        if name is None:
            parts = [_part(setting, getattr(config, setting)) for setting in settings]
            wanted = sweep.names.get(config) or "-".join(parts) or "point"
            tries = (wanted if i == 1 else f"{wanted}-{i}" for i in range(1, len(taken) + 2))
            name = next(one for one in tries if one not in taken)
            taken.add(name)
        names[name] = config
    return names


def _against(sweep: Sweep, points: dict[str, TrainConfig]) -> Pruning | None:
    """Return how trainings are pruned, against the run of that point, which may have stood there by another name."""
    if sweep.prune is None:
        return None
    run = next(name for name, config in points.items() if sweep.names.get(config) == sweep.prune.against)
    return sweep.prune._replace(against=run)


def _config_in(path: Path) -> TrainConfig | None:
    try:
        return RunDirectory(path).load_config()
    except UserError:  # logs, or a folder of someone else's
        return None


def _part(name: str, value: Any) -> str:
    """One setting as a part of a folder's name: ``tv``, ``rho-0.1``, ``no-double_q``."""
    if isinstance(value, bool):
        return name if value else f"no-{name}"
    if isinstance(value, str):
        text = re.sub(r"[^\w.=]+", "-", value).strip("-.") or "none"
        return text if isinstance(FIELDS[name].default, str) and name != "fail_value" and value else f"{name}-{text}"
    return f"{name}-{value:.12g}"

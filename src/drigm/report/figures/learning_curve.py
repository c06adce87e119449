"""Pictures of a training run."""

from __future__ import annotations

from drigm.report.figures.charts import learning_curves
from drigm.report.figures.style import save
from drigm.training.runs import Run


def draw_learning_curve(run: Run) -> None:
    """Save the run's learning curve (score of the exploring team over environment steps) in its directory."""
    curves = []
    for seed in run.seeds:
        rows = run.directory.read_metrics(seed)
        curves.append(([row["step"] for row in rows], [row["score"] for row in rows]))
    label = f"{run.config.factorization} {run.config.uncertainty}"
    save(learning_curves({label: curves}, ylabel="Score while exploring", bottom=0.0), run.directory.curve_file)

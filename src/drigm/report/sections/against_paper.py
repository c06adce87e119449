"""The section that sets a small office's scores beside the paper's table."""

from __future__ import annotations

from collections.abc import Callable

from drigm.core.naming import spaced
from drigm.envs.building.dataset import PROTOCOL_CITIES
from drigm.evaluation.controllers import TITLES
from drigm.evaluation.published import (
    CONTROLLERS,
    Reference,
    authors_score,
    controller_score,
    paper_rho,
    paper_score,
    reference_method,
)
from drigm.evaluation.statistics import per_world
from drigm.report.html import Html, Section, paragraph, table_html
from drigm.report.study import Method, Study

PROTOCOL = "building:OfficeSmall/Tucson"  # where the paper's teams are trained
Look = Callable[[str, str, str], Reference | None]


def paper_section(study: Study, suffix: str = "") -> Section | None:
    """Return our scores above the paper's and its authors' networks', or None for any other protocol."""
    if study.name != PROTOCOL or study.worlds != list(PROTOCOL_CITIES):
        return None
    rows, paired = [], set()
    for method in study.methods:
        rows.append(_ours(study, method))
        key = _key(method)
        if key not in paired:  # methods of several radii share the paper's one
            sources = (("paper", paper_score), ("authors' networks", authors_score))
            rows += [row for source, look in sources if (row := _theirs(study, key, source, look)) is not None]
        paired.add(key)
    rows += [_controller(study, name) for name in CONTROLLERS]
    columns = {"method": "Method", "source": "From", **{world: spaced(world) for world in study.worlds}}
    note = paragraph(
        "Trained in Tucson, 50 days in each city.",
        "Ours: mean and 95 % interval over seeds. Theirs: mean ± standard error over 5 seeds.",
        "The paper's table has Tucson (its 'seasonal') and New York ('climate + season') only;",
        "its authors' released networks were scored here in all six cities.",
    )
    return Section("Beside the paper", f"paper{suffix}", note + table_html(rows, columns))


def _ours(study: Study, method: Method) -> dict[str, object]:
    intervals = per_world(method.scores)
    source = f"these runs, {len(method.seeds)} seed{'s' if len(method.seeds) > 1 else ''}"
    return {
        "method": method.label,
        "source": Html(f"<b>{source}</b>"),
        **dict(zip(study.worlds, intervals, strict=True)),
    }


def _key(method: Method) -> tuple[str, str]:
    """What the references call the method: its factorization and its set, or its baseline."""
    config = method.config
    return config.factorization, reference_method(config)


def _theirs(study: Study, key: tuple[str, str], source: str, look: Look) -> dict[str, object] | None:
    cells = {city: found for city in study.worlds if (found := look(city, *key)) is not None}
    if not cells:
        return None
    factorization, method = key
    name = factorization.upper() + ("" if method == "nominal" else f"-{'TV' if method == 'tv' else method}")
    rho = paper_rho(*key)
    shown = {city: Html(f'{x.mean:.3f} <span class="ends">± {x.se:.3f}</span>') for city, x in cells.items()}
    return {"method": f"{name} {rho:g}" if rho else name, "source": source, **shown}


def _controller(study: Study, name: str) -> dict[str, object]:
    scores = {city: f"{controller_score(city, name):.3f}".replace("-", "\N{MINUS SIGN}") for city in study.worlds}
    return {"method": TITLES[name], "source": "controller, no learning", **scores}

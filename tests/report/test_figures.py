"""Figures: that what is drawn is the data, and that labels stay clear of it."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.colors import to_hex
from small import SMALL

from drigm.core.errors import UserError
from drigm.evaluation.statistics import Interval
from drigm.report.figures.charts import FLOOR, BuildingDay, PolicyDay, building_day, shift_bars
from drigm.report.figures.curves import Band, learning_bands
from drigm.report.figures.gains import VERDICTS, Gain, verdict_grid
from drigm.report.figures.learning_curve import draw_learning_curve, learning_band
from drigm.report.figures.style import save, spread
from drigm.report.tables import Score


def scores():
    return {
        "VDN": {"Tucson": Score(0.92, 0.01), "NewYork": Score(0.86, 0.02)},
        "GroupDR": {"Tucson": Score(0.62), "NewYork": Score(-2.3, 0.1)},
    }


def day(policies=2, steps=12, zones=3):
    hours = np.arange(steps) * 2.0
    temperature = 22 + np.linspace(-1, 1, steps)[:, None] * np.arange(1, zones + 1)
    action = np.linspace(-1, 1, steps * zones).reshape(steps, zones)
    made = [PolicyDay(f"policy {i}", temperature, action) for i in range(policies)]
    return BuildingDay("ElPaso", [f"zone {i}" for i in range(zones)], hours, hours, made)


def texts(ax):
    return [text.get_text() for text in ax.texts]


def whiskers(container):
    """Return (low, high) of each vertical whisker of an errorbar container."""
    (segments,) = container.lines[2]
    return [(segment[0][1], segment[1][1]) for segment in segments.get_segments()]


def run_of(folder, *seeds):
    """A run with these (steps, scores) of each seed."""
    rows = [[{"step": x, "score": y} for x, y in zip(*seed, strict=True)] for seed in seeds]
    directory = SimpleNamespace(read_metrics=rows.__getitem__, curve_file=folder / "learning_curve.png")
    return SimpleNamespace(seeds=list(range(len(seeds))), directory=directory, config=SMALL)


def test_a_learning_curve_is_the_mean_where_all_seeds_are_known(tmp_path):
    run = run_of(tmp_path, ([0, 1000, 2000], [0, 1000, 2000]), ([0, 500, 1000], [1, math.nan, 1001]), ([0], [math.nan]))
    band = learning_band([run], "score")
    assert band.x == [0, 1000]
    assert [i.estimate for i in band.intervals] == [0.5, 1000.5]
    assert learning_band([run], "win_rate") is None


@pytest.mark.parametrize("seeds", [[([0, 9], [0.1, 0.2])], [([5], [1.0])], [([], [])], [([0, 9], [math.nan] * 2)]])
def test_the_picture_of_a_run_before_and_after_its_first_value(seeds, tmp_path):
    draw_learning_curve(run_of(tmp_path, *seeds))
    assert (tmp_path / "learning_curve.png").read_bytes().startswith(b"\x89PNG")


def test_labels_do_not_overlap():
    ends = {f"method {i}": [0.0, 0.5, 0.9 + 0.001 * i] for i in range(6)}
    bands = {name: Band([0, 1000, 2000], [Interval(x, math.nan, math.nan) for x in ys]) for name, ys in ends.items()}
    figure = learning_bands(bands, ylabel="Score", title="")
    figure.draw_without_rendering()
    (ax,) = figure.axes
    # Of the text alone: Annotation's own extent includes its leader line.
    boxes = sorted((text.get_tightbbox() for text in ax.texts), key=lambda box: box.y0)
    heights = [text.xyann[1] for text in ax.texts]
    assert heights == sorted(heights)
    pixel_heights = sorted(ax.transData.transform((0, height))[1] for height in heights)
    size = ax.texts[0].get_fontsize() * figure.dpi / 72
    assert min(np.diff(pixel_heights)) >= size
    assert all(box.x0 > ax.get_window_extent().x1 - 1 for box in boxes)


@pytest.mark.parametrize(
    ("positions", "placed"),
    [
        ([0.0, 5.0], [0.0, 5.0]),
        ([1.0, 1.0], [0.5, 1.5]),
        ([3.0, 1.0, 1.2], [3.0, 0.6, 1.6]),
        ([0.0, 0.0, 0.9], [-0.7, 0.3, 1.3]),
        ([], []),
    ],
)
def test_spread(positions, placed):
    np.testing.assert_allclose(spread(positions, gap=1.0), placed)


def test_shift_bars_draw_scores_and_whiskers():
    (ax,) = shift_bars(scores()).axes
    vdn, groupdr = [c for c in ax.containers if hasattr(c, "patches")]
    assert [bar.get_height() for bar in vdn] == [0.92, 0.86]
    assert [bar.get_height() for bar in groupdr] == [0.62, FLOOR]
    errors = [c for c in ax.containers if not hasattr(c, "patches")]
    np.testing.assert_allclose(whiskers(errors[0]), [(0.91, 0.93), (0.84, 0.88)])
    assert len(errors) == 2
    assert whiskers(errors[1]) == []  # neither the single seed nor the bar that is cut has one
    assert texts(ax) == ["0.920", "0.860", "0.620", "\N{MINUS SIGN}2.3"]


def test_shift_bars_name_everything():
    figure = shift_bars(scores())
    (ax,) = figure.axes
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["Tucson", "New York"]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["VDN", "GroupDR", "one-step optimum, 0.994"]
    assert any(np.allclose(line.get_ydata(), 0.994) for line in ax.lines)
    caption = " ".join(ax.get_xlabel().split())
    assert "Doing nothing scores \N{MINUS SIGN}1.7 in Tucson, \N{MINUS SIGN}3.6 in New York." in caption
    assert figure.get_suptitle() == "VDN has the highest mean score over 2 cities: 0.890"


@pytest.mark.parametrize("prefix", ["", "a rather long name of a method, "])
def test_shift_bars_legend_is_clear_of_the_axes_and_inside_the_figure(prefix):
    figure = shift_bars({prefix + method: row for method, row in scores().items()})
    figure.draw_without_rendering()
    (ax,) = figure.axes
    legend = ax.get_legend().get_window_extent()
    title, caption = figure.texts[0].get_window_extent(), ax.xaxis.label.get_window_extent()
    assert legend.y0 >= ax.get_window_extent().y1 - 1
    assert legend.y1 <= title.y0 + 1
    for box in [legend, title, caption]:
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1


def test_a_method_may_lack_a_city():
    made = scores()
    del made["GroupDR"]["Tucson"]
    figure = shift_bars(made)
    assert figure.get_suptitle() == "VDN has the highest mean score in New York: 0.860"


def test_shift_bars_refuse_nothing():
    with pytest.raises(UserError):
        shift_bars({"VDN": {}})


def test_building_day_draws_every_zone_of_both_policies():
    figure = building_day(day())
    *axes, bar = figure.axes
    grid = np.array(axes).reshape(3, 2)
    for column in range(2):
        inside, outside, power = grid[:, column]
        target, *zones = inside.lines
        assert set(target.get_ydata()) == {22.0}
        assert len(zones) == 3
        np.testing.assert_allclose(zones[2].get_ydata(), np.asarray(day().policies[column].zone_temperature)[:, 2])
        np.testing.assert_allclose(outside.lines[0].get_ydata(), day().hours)
        (mesh,) = [c for c in power.collections if hasattr(c, "get_coordinates")]
        np.testing.assert_allclose(mesh.get_array(), np.asarray(day().policies[column].action).T)
        assert mesh.get_clim() == (-1, 1)
        assert power.get_xlabel() == "Hour of the day"
    assert [tick.get_text() for tick in grid[2, 0].get_yticklabels()] == ["zone 0", "zone 1", "zone 2"]
    assert texts(grid[0, 1]) == ["zone 0", "zone 1", "zone 2", "target, 22 °C"]
    assert grid[0, 0].get_ylim() == grid[0, 1].get_ylim()
    assert grid[0, 0].get_xlim() == (0, 24)
    assert figure.get_suptitle() == "One day in El Paso"
    figure.draw_without_rendering()
    assert [tick.get_text() for tick in bar.get_xticklabels()] == ["full cooling", "off", "full heating"]


def test_building_day_titles_say_the_mean_distance():
    made = day(policies=1)
    distance = np.abs(np.asarray(made.policies[0].zone_temperature) - 22).mean()
    assert building_day(made).axes[0].get_title(loc="left") == f"policy 0: {distance:.2f} °C from target on average"


def test_building_day_refuses_a_wrong_shape():
    made = day()
    transposed = made.policies[0]._replace(action=np.asarray(made.policies[0].action).T)
    with pytest.raises(UserError, match="policy 0: action shape"):
        building_day(made._replace(policies=[transposed]))


@pytest.mark.parametrize("draw", [lambda: shift_bars(scores()), lambda: building_day(day())])
@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_saved_files_are_complete_and_the_same_each_time(draw, suffix, tmp_path):
    first = save(draw(), tmp_path / "new" / f"a.{suffix}", dpi=50)
    second = save(draw(), tmp_path / f"b.{suffix}", dpi=50)
    start = b"\x89PNG" if suffix == "png" else b"<?xml"
    assert first.read_bytes().startswith(start)
    assert first.read_bytes() == second.read_bytes()


def test_a_figure_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_text("old")

    def full(file, **options):
        Path(file).write_text("half")
        raise OSError(28, "No space left on device")

    figure = shift_bars(scores())
    monkeypatch.setattr(figure, "savefig", full)
    with pytest.raises(UserError, match="No space left"):
        save(figure, tmp_path / "a.png")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_save_refuses_other_formats(tmp_path):
    with pytest.raises(UserError, match=r"\.png or \.svg"):
        save(shift_bars(scores()), tmp_path / "a.bmp")


def test_a_cell_of_the_grid_says_by_its_colour_what_is_clear():
    clear, unclear, worse = Interval(0.2, 0.1, 0.3), Interval(0.2, -0.1, 0.5), Interval(-0.2, -0.3, -0.1)
    over = {"a discount": clear, "randomization": unclear}
    gains = [Gain("Tanks", "TV", over, 5), Gain("Tanks", "KL", {"a discount": worse}, 5), Gain("Pipes", "TV", over, 3)]
    gains[0] = gains[0]._replace(said="pays")
    assert [gain.verdict("a discount") for gain in gains] == ["gains", "loses", "too few seeds"]
    (axes,) = verdict_grid(gains, title="Gain").axes
    few = "too few seeds"
    cells = [to_hex(patch.get_facecolor()) for patch in axes.patches]
    looks = [VERDICTS[name] for name in ("gains", "no clear difference", "loses", few, few)]
    assert cells == [to_hex(look.get("color", look.get("facecolor"))) for look in looks]
    assert [bool(patch.get_hatch()) for patch in axes.patches] == [False, False, False, True, True]
    assert texts(axes) == ["Tanks", "+0.200", "+0.200", "TV: pays", "-0.200", "KL", "Pipes", "+0.200", "+0.200", "TV"]

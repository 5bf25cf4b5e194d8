"""Figures as a picture: one row a figure, our value and each baseline's as a dot with its interval, SVG."""

import io
from collections.abc import Sequence

from attribution.evaluation.suite import OURS, Figure, Result

COLOURS = ("#0b5cad", "#b4501e", "#6b7f1e", "#7a4b9b", "#8a8a8a", "#3a8f8f", "#a03a5a")
ROW, LANE, HEAD = 0.30, 0.13, 1.3  # inches
WIDTH = 9.0


def svg(result: Result) -> str:
    """Draw the rates of a result, grouped, as one SVG document. The same result gives the same bytes.

    Each figure is a row; a short upright line is its target. Figures that are no rates between 0 and 1 are left out.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    figures = [figure for figure in result.figures if figure.unit == "rate"]
    methods = sorted({figure.method for figure in figures}, key=lambda method: (method != OURS, method))
    rows = list(dict.fromkeys((figure.group, figure.name) for figure in figures))
    place = {row: position for position, row in enumerate(_spaced(rows)) if row is not None}
    height = HEAD + max(1, max(place.values(), default=0) + 1) * max(ROW, LANE * len(methods))
    with mpl.rc_context({"svg.hashsalt": "lawful-ledger", "svg.fonttype": "none", "font.family": "sans-serif"}):
        canvas = Canvas(figsize=(WIDTH, height), layout="constrained", facecolor="white")
        FigureCanvasSVG(canvas)
        axes = canvas.subplots()
        for number, method in enumerate(methods):
            _dots(axes, [each for each in figures if each.method == method], place, number, len(methods), method)
        for figure in figures:
            if figure.method == OURS and figure.target is not None:
                at = place[figure.group, figure.name]
                axes.plot([figure.target] * 2, [at - 0.45, at + 0.45], color="black", linewidth=1)
        axes.set_yticks(list(place.values()), [f"{name}  ·  {group}" if group else name for group, name in place])
        axes.set_ylim(max(place.values(), default=0) + 0.7, -0.7)
        axes.set_xlim(-0.02, 1.02)
        axes.grid(axis="x", color="#dddddd")
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=8)
        axes.set_title(f"{result.suite}: {result.data.works} works by {result.data.artists} artists", fontsize=10)
        if methods:
            axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.35 / height), ncols=3, fontsize=8, frameon=False)
        out = io.StringIO()
        canvas.savefig(out, format="svg", metadata={"Date": None, "Creator": "lawful evaluate"})
    return out.getvalue()


def _spaced(rows: Sequence[tuple[str, str]]) -> list[tuple[str, str] | None]:
    """A gap where the group changes."""
    spaced: list[tuple[str, str] | None] = []
    for row in sorted(rows, key=lambda row: [group for group, _ in rows].index(row[0])):
        if spaced and spaced[-1] is not None and spaced[-1][0] != row[0]:
            spaced.append(None)
        spaced.append(row)
    return spaced


def _dots(
    axes: object, figures: Sequence[Figure], place: dict[tuple[str, str], int], lane: int, lanes: int, method: str
) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    offset = (lane - (lanes - 1) / 2) * 0.8 / max(lanes, 1)
    at = [place[figure.group, figure.name] + offset for figure in figures]
    values = [figure.value for figure in figures]
    spans = [
        [max(0.0, figure.value - figure.low) for figure in figures],
        [max(0.0, figure.high - figure.value) for figure in figures],
    ]
    colour = COLOURS[lane % len(COLOURS)]
    size = 5 if method == OURS else 3.5
    axes.errorbar(values, at, xerr=spans, fmt="o", color=colour, markersize=size, linewidth=1, capsize=0, label=method)

"""Plots as SVG, drawn here: an image needs no plotting library for lines, dots and squares.

Coordinates are pixels of the view box. A person who cannot see a plot gets its description, which says the same in words.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape as escaped

from eagleray_runtime.arrays import Integers
from eagleray_runtime.contract.reports import HistoryPoint

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 76, 16, 36, 48
COLOURS = ("#2563eb", "#ea580c", "#16a34a", "#9333ea", "#dc2626", "#0891b2", "#ca8a04", "#475569")

NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

CORNERS = ((True, True), (True, False), (False, True), (False, False))

Point = tuple[float, float]


@dataclass(frozen=True)
class Plot:
    """A picture of a bundle: its file's `stem`, what it shows in a few words, and itself."""

    stem: str
    title: str
    svg: str


@dataclass(frozen=True)
class Axis:
    """A named axis from `low` to `high`, of which the former is smaller; on a logarithmic one both are above 0.

    On a `whole` one only whole numbers are written.
    """

    label: str
    low: float
    high: float
    logarithmic: bool = False
    whole: bool = False

    @classmethod
    def around(cls, label: str, values: Iterable[float], *, may_be_logarithmic: bool = False) -> "Axis":
        """An axis that holds the finite ones of the values."""
        finite = [value for value in values if math.isfinite(value)] or [0.0]
        low, high = min(finite), max(finite)
        logarithmic = may_be_logarithmic and low > 0
        if logarithmic and math.log10(high / low) < 1e-12:
            return cls(label, low / 3, high * 3, logarithmic)
        if not logarithmic and high - low < 1e-12 * max(1.0, abs(high)):
            # Half of one is lost beside a number beyond 2^53.
            room = max(0.5, abs(high) * 1e-3)
            return cls(label, low - room, high + room)
        return cls(label, low, high, logarithmic)

    def share(self, value: float) -> float:
        """Where a value is between both ends, 0 to 1."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Five values at equal distances, or the whole numbers next to them."""
        if self.logarithmic:
            return [self.low * (self.high / self.low) ** (step / 4) for step in range(5)]
        ticks = [self.low + (self.high - self.low) * step / 4 for step in range(5)]
        return sorted({float(math.floor(tick)) for tick in ticks if math.floor(tick) >= self.low}) if self.whole else ticks


@dataclass(frozen=True)
class Line:
    """A named line through points."""

    name: str
    points: Sequence[Point]


def loss_curve(history: Sequence[HistoryPoint], title: str) -> Plot:
    """Training and validation loss, on a logarithmic axis where every loss is positive."""
    lines = [
        Line("training", [(point.epoch, point.training) for point in history]),
        Line("validation", [(point.epoch, point.validation) for point in history if point.validation is not None]),
    ]
    losses = [y for line in lines for _, y in line.points]
    description = ". ".join(f"{line.name} {line.points[0][1]:.4g} to {line.points[-1][1]:.4g}" for line in lines if line.points)
    epochs = replace(Axis.around("epoch", [point.epoch for point in history]), whole=True)
    return chart("loss", title, description, epochs, Axis.around("loss", losses, may_be_logarithmic=True), lines)


def chart(
    stem: str, title: str, description: str, x: Axis, y: Axis, lines: Sequence[Line] = (), dots: Sequence[Point] = ()
) -> Plot:
    """Lines with a legend, and dots, between two axes; what is not finite is left out."""

    def at(point: Point) -> tuple[float, float]:
        return (
            LEFT + (WIDTH - LEFT - RIGHT) * x.share(point[0]),
            TOP + (HEIGHT - TOP - BOTTOM) * (1 - y.share(point[1])),
        )

    parts = []
    for value in y.ticks():
        _, height = at((x.low, value))
        parts.append(f'<line x1="{LEFT}" y1="{height:.1f}" x2="{WIDTH - RIGHT}" y2="{height:.1f}" stroke="#e5e7eb"/>')
        parts.append(_text(LEFT - 6, height + 4, f"{value:.3g}", "end"))
    parts.extend(_text(at((value, y.low))[0], HEIGHT - BOTTOM + 18, f"{value:.4g}", "middle") for value in x.ticks())
    parts.append(_text((LEFT + WIDTH) / 2, HEIGHT - 10, x.label, "middle"))
    parts.append(_text(14, HEIGHT / 2, y.label, "middle", f' transform="rotate(-90 14 {HEIGHT / 2:g})"'))
    for point in dots:
        if all(map(math.isfinite, point)):
            across, down = at(point)
            parts.append(f'<circle cx="{across:.1f}" cy="{down:.1f}" r="2.5" fill="{COLOURS[0]}" fill-opacity="0.5"/>')
    finite = [Line(line.name, [point for point in line.points if all(map(math.isfinite, point))]) for line in lines]
    drawn = [line for line in finite if line.points]
    is_right, is_up = _emptiest([(x.share(across), y.share(up)) for line in drawn for across, up in line.points])
    legend = TOP + 16 if is_up else HEIGHT - BOTTOM - 8 - 15 * (len(drawn) - 1)
    for number, line in enumerate(drawn):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join("{:.1f},{:.1f}".format(*at(point)) for point in line.points)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if line.name:
            place = (WIDTH - RIGHT - 8, "end") if is_right else (LEFT + 8, "start")
            parts.append(_text(place[0], legend + 15 * number, line.name, place[1], f' fill="{colour}"'))
    return Plot(stem, title, _svg(title, description, HEIGHT, parts))


def matrix(stem: str, title: str, description: str, names: Sequence[str], counts: Integers) -> Plot:
    """Numbers of rows, darker where they are a larger share of their row.

    Args:
        stem, title, description: as of `chart`. names: of rows and columns alike.
        counts: int64 [names, names] by right and answered class.
    """
    room = WIDTH - 2 * LEFT
    side = room / len(names)
    parts = [_text(LEFT + room / 2, TOP + 16, "answered", "middle"), _text(LEFT - 6, TOP + 16, "right", "end")]
    top = TOP + 40
    for number, name in enumerate(names):
        parts.append(_text(LEFT + side * (number + 0.5), top - 6, _short(name, side), "middle"))
        parts.append(_text(LEFT - 6, top + side * (number + 0.5) + 4, _short(name, LEFT), "end"))
    for row, line in enumerate(counts):
        whole = max(1, int(line.sum()))
        for column, count in enumerate(line):
            share = int(count) / whole
            place = f'x="{LEFT + side * column:.1f}" y="{top + side * row:.1f}" width="{side:.1f}" height="{side:.1f}"'
            parts.append(f'<rect {place} fill="{COLOURS[0]}" fill-opacity="{share:.3f}" stroke="#e5e7eb"/>')
            colour = ' fill="white"' if share > 0.5 else ""
            parts.append(_text(LEFT + side * (column + 0.5), top + side * (row + 0.5) + 4, str(int(count)), "middle", colour))
    return Plot(stem, title, _svg(title, description, math.ceil(top + room + 16), parts))


def _emptiest(shares: Sequence[Point]) -> tuple[bool, bool]:
    """The corner, right or not and upper or not, in whose quarter of the picture the fewest points are."""
    quarters = Counter((across >= 0.5, up >= 0.5) for across, up in shares)
    return min(CORNERS, key=lambda corner: quarters[corner])


def _text(x: float, y: float, words: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{_escape(words)}</text>'


def _escape(words: str) -> str:
    """Words as XML may hold them, which has no control characters."""
    return escaped(NO_XML.sub("\N{REPLACEMENT CHARACTER}", words))


def _short(name: str, room: float) -> str:
    """A name that fits into so many pixels."""
    most = max(1, int(room / 7))
    return name if len(name) <= most else f"{name[: most - 1]}\N{HORIZONTAL ELLIPSIS}"


def _svg(title: str, description: str, height: int, parts: Iterable[str]) -> str:
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        'aria-labelledby="title description" font-family="sans-serif" font-size="12">',
        f'<title id="title">{_escape(title)}</title>',
        f'<desc id="description">{_escape(description)}</desc>',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{_escape(title)}</text>',
    ]
    return "\n".join([*head, *parts, "</svg>", ""])

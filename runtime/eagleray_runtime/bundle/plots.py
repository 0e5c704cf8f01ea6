"""The loss over the epochs as SVG, drawn here: an image needs no plotting library for two lines."""

import math
from collections.abc import Sequence
from html import escape

from eagleray_runtime.contract.reports import HistoryPoint

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 76, 16, 36, 48
COLOURS = {"training": "#2563eb", "validation": "#ea580c"}


def loss_curve(history: Sequence[HistoryPoint], title: str) -> str:
    """Training and validation loss, on a logarithmic axis where every loss is positive."""
    lines = {
        "training": [(point.epoch, point.training) for point in history],
        "validation": [(point.epoch, point.validation) for point in history if point.validation is not None],
    }
    drawn = {name: [(x, y) for x, y in line if math.isfinite(y)] for name, line in lines.items()}
    values = [y for line in drawn.values() for _, y in line] or [0.0]
    logarithmic = min(values) > 0
    low, high = (math.log10(min(values)), math.log10(max(values))) if logarithmic else (min(values), max(values))
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5
    last = max((point.epoch for point in history), default=1)
    first = min((point.epoch for point in history), default=0)

    def x_of(epoch: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (epoch - first) / max(last - first, 1)

    def y_of(value: float) -> float:
        position = math.log10(value) if logarithmic else value
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - position) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'font-family="sans-serif" font-size="12">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{escape(title)}</text>',
    ]
    for step in range(5):
        position = low + (high - low) * step / 4
        value = 10**position if logarithmic else position
        y = y_of(value)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#e5e7eb"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    parts.extend(
        f'<text x="{x_of(epoch):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{epoch}</text>'
        for epoch in sorted({first, (first + last) // 2, last})
    )
    parts.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 10}" text-anchor="middle">epoch</text>')
    for number, (name, line) in enumerate(drawn.items()):
        if not line:
            continue
        points = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in line)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[name]}" stroke-width="2"/>')
        parts.append(f'<text x="{WIDTH - RIGHT - 150 + 80 * number}" y="20" fill="{COLOURS[name]}">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])

"""Pictures of a model: read as XML, point by point, beside what scikit-learn says."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from sklearn import metrics as theirs

from eagleray_runtime.bundle.plots import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, Line, chart, loss_curve, matrix
from eagleray_runtime.bundle.reading import read_bundle
from eagleray_runtime.contract.reports import HistoryPoint
from eagleray_runtime.reports import Reporter
from eagleray_runtime.storage import Store
from eagleray_runtime.training import driver
from eagleray_runtime.training.curves import (
    MOST_CLASSES,
    MOST_CURVES,
    MOST_DOTS,
    MOST_POINTS,
    plots,
    precision_recall,
    roc,
    thinned,
)
from eagleray_runtime.training.metrics import Classes, Numbers
from eagleray_runtime.training.progress import Progress

SVG = "{http://www.w3.org/2000/svg}"
PIXEL = 0.06
"""Coordinates are written to a tenth of a pixel."""


def read(plot):
    """The root of a plot, which is well-formed and says what it shows to those who cannot see it."""
    root = ElementTree.fromstring(plot.svg)  # noqa: S314 - our own
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    told = {child.get("id"): child.text for child in root if child.tag in (f"{SVG}title", f"{SVG}desc")}
    assert set(told) == set(root.get("aria-labelledby").split())
    assert told["title"] == plot.title
    assert told["description"]
    return root


def words(root):
    return [text.text for text in root.iter(f"{SVG}text")]


def lines(root, x, y):
    """The points of each polyline in the units of the axes."""
    found = []
    for line in root.iter(f"{SVG}polyline"):
        pixels = np.array([[float(number) for number in pair.split(",")] for pair in line.get("points").split()])
        found.append(
            np.stack([value(pixels[:, 0], x, LEFT, WIDTH - RIGHT), value(pixels[:, 1], y, HEIGHT - BOTTOM, TOP)], axis=1)
        )
    return found


def value(pixel, axis, low, high):
    share = (pixel - low) / (high - low)
    if axis.logarithmic:
        return axis.low * (axis.high / axis.low) ** share
    return axis.low + share * (axis.high - axis.low)


def scores(classes=2, rows=60, seed=0):
    """Answers that are somewhat right; scores are rounded, so that some are equal."""
    random = np.random.default_rng(seed)
    right = random.integers(classes, size=rows)
    told = np.round(random.normal(size=(rows, classes)) + 1.5 * np.eye(classes)[right], 1)
    return Classes(right, told.argmax(axis=1), told)


UNIT = Axis("", 0.0, 1.0)


def test_roc_goes_through_the_points_and_has_the_area_that_scikit_learn_finds():
    of = scores()
    score = of.scores[:, 1] - of.scores[:, 0]
    false, true, _ = theirs.roc_curve(of.right, score, drop_intermediate=False)
    ours = roc(of.right == 1, score)
    assert ours[0] == pytest.approx(false)
    assert ours[1] == pytest.approx(true)
    _, plot, _ = plots(of, "test", ["no", "yes"], "bought")
    assert plot.stem == "roc"
    root = read(plot)
    [line] = lines(root, UNIT, UNIT)
    assert line == pytest.approx(np.array(thinned(false, true)), abs=PIXEL / 200)
    assert f"yes {theirs.roc_auc_score(of.right, score):.3f}" in words(root)
    assert {"false positive rate", "true positive rate", "ROC on the test part"} <= set(words(root))


def test_precision_and_recall_are_those_of_scikit_learn():
    of = scores(classes=3)
    for number in range(3):
        positive, score = of.right == number, of.scores[:, number]
        precision, recall, _ = theirs.precision_recall_curve(positive, score)
        ours = precision_recall(positive, score)
        # Theirs begins with the last threshold, goes on when all positives are found, and ends with a point of its own.
        assert ours[0][1:] == pytest.approx(recall[-2::-1])
        assert ours[1][1:] == pytest.approx(precision[-2::-1])
    *_, plot = plots(of, "validation", ["a", "b", "c"], "kind")
    root = read(plot)
    assert len(lines(root, UNIT, UNIT)) == 3
    areas = [theirs.average_precision_score(of.right == number, of.scores[:, number]) for number in range(3)]
    assert [word for word in words(root) if re.fullmatch(r"[abc] \S+", word)] == [
        f"{name} {area:.3f}" for name, area in zip("abc", areas, strict=True)
    ]


def test_a_confusion_matrix_holds_every_count_and_shades_it_by_its_share_of_the_row():
    of = scores(classes=3)
    plot, *_ = plots(of, "test", ["a", "b", "c"], "kind")
    root = read(plot)
    counts = theirs.confusion_matrix(of.right, of.answered)
    squares = [rect for rect in root.iter(f"{SVG}rect") if rect.get("fill-opacity")]
    shares = counts / counts.sum(axis=1, keepdims=True)
    assert [float(rect.get("fill-opacity")) for rect in squares] == pytest.approx(shares.ravel(), abs=6e-4)
    assert [int(word) for word in words(root) if word.isdigit()] == counts.ravel().tolist()
    # Rows from above, columns from the left.
    places = [(float(rect.get("y")), float(rect.get("x"))) for rect in squares]
    assert places == sorted(places)


def test_residuals_are_right_less_answered_over_what_was_answered():
    random = np.random.default_rng(1)
    answered = random.uniform(10, 20, size=40)
    of = Numbers(answered + random.normal(size=40), answered)
    [plot] = plots(of, "test", [], "price")
    root = read(plot)
    errors = of.right - of.answered
    x, y = Axis("", answered.min(), answered.max()), Axis("", min(errors.min(), 0), max(errors.max(), 0))
    dots = [(float(dot.get("cx")), float(dot.get("cy"))) for dot in root.iter(f"{SVG}circle")]
    assert value(np.array([dot[0] for dot in dots]), x, LEFT, WIDTH - RIGHT) == pytest.approx(answered, abs=0.01)
    assert value(np.array([dot[1] for dot in dots]), y, HEIGHT - BOTTOM, TOP) == pytest.approx(errors, abs=0.02)
    [zero] = lines(root, x, y)
    assert zero[:, 1] == pytest.approx([0, 0], abs=0.02)
    assert f"mean {errors.mean():.4g}" in next(root.iter(f"{SVG}desc")).text


@pytest.mark.parametrize("answered", [0.0, 5.0, -1.7e18, 1e300])
def test_an_axis_has_room_around_a_number_that_never_changes_however_large(answered):
    [plot] = plots(Numbers(np.full(3, answered) + 1, np.full(3, answered)), "test", [], "time")
    assert {float(dot.get("cx")) for dot in read(plot).iter(f"{SVG}circle")} == {(LEFT + WIDTH - RIGHT) / 2}


def test_the_loss_curve_draws_both_losses_on_a_logarithmic_axis():
    history = [HistoryPoint(epoch=epoch, training=1 / epoch, validation=2 / epoch) for epoch in range(1, 9)]
    root = read(loss_curve(history, "a <b> & c"))
    x, y = Axis("", 1, 8), Axis("", 1 / 8, 2, logarithmic=True)
    training, validation = lines(root, x, y)
    assert training == pytest.approx(np.array([(point.epoch, point.training) for point in history]), rel=2e-3)
    assert validation == pytest.approx(np.array([(point.epoch, point.validation) for point in history]), rel=2e-3)
    assert {"1", "2", "4", "6", "8", "epoch", "loss", "training", "validation"} <= set(words(root))


@pytest.mark.parametrize(
    ("points", "corner"),
    [([(0.1, 0.1)], "upper right"), ([(0.9, 0.9)], "lower right"), ([(0.9, 0.9), (0.9, 0.1)], "upper left")],
)
def test_names_of_lines_stand_where_the_lines_are_not(points, corner):
    root = read(chart("c", "t", "d", UNIT, UNIT, [Line("name", points)]))
    [text] = [text for text in root.iter(f"{SVG}text") if text.text == "name"]
    assert ("upper" in corner) == (float(text.get("y")) < HEIGHT / 2)
    assert ("right" in corner) == (float(text.get("x")) > WIDTH / 2)
    assert text.get("text-anchor") == ("end" if "right" in corner else "start")


@pytest.mark.parametrize("losses", [[0.0], [1.0], [-1.0, 2.0], [float("nan"), 1.0, float("inf")]], ids=str)
def test_it_survives_any_losses(losses):
    points = [HistoryPoint.model_construct(epoch=epoch, training=loss) for epoch, loss in enumerate(losses, 1)]
    root = read(loss_curve(points, "odd"))
    [line] = root.iter(f"{SVG}polyline")
    assert len(line.get("points").split()) == np.isfinite(losses).sum()
    assert re.fullmatch(r"[\d., ]+", line.get("points"))


def test_names_that_no_xml_holds_as_they_are_do_not_spoil_a_plot():
    names = ["<script>", "a\x00b\x1b", "\ud800"]
    lines_of = [Line(name, [(0.0, 1.0)]) for name in names]
    told = set(words(read(chart("odd", "what & why", "told \x01", UNIT, UNIT, lines_of))))
    assert {"what & why", "<script>", "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}", "\N{REPLACEMENT CHARACTER}"} <= told
    assert "<script>" in words(read(matrix("odd", "title", "told", ["<script>" * 9, "<script>"], np.eye(2, dtype=np.int64))))


def test_a_plot_stays_small_whatever_the_data():
    many = scores(classes=60, rows=3000)
    found = plots(many, "test", [f"class {number}" for number in range(60)], "kind")
    for plot in found:
        read(plot)
        assert len(plot.svg) < 150_000
    confusion, curves, _ = (read(plot) for plot in found)
    assert len([rect for rect in confusion.iter(f"{SVG}rect") if rect.get("fill-opacity")]) == MOST_CLASSES**2
    assert sum(int(word) for word in words(confusion) if word.isdigit()) == 3000
    assert "others" in words(confusion)
    drawn = lines(curves, UNIT, UNIT)
    assert len(drawn) == MOST_CURVES
    assert max(map(len, drawn)) <= MOST_POINTS
    [plot] = plots(Numbers(np.zeros(5000), np.arange(5000.0)), "test", [], "y")
    assert len(list(read(plot).iter(f"{SVG}circle"))) == MOST_DOTS


def test_a_class_that_does_not_occur_has_no_curve():
    of = scores(classes=3)
    without = of.take(np.flatnonzero(of.right != 2))
    root = read(plots(without, "test", ["a", "b", "c"], "kind")[1])
    assert len(lines(root, UNIT, UNIT)) == 2
    alone = of.take(np.flatnonzero(of.right == 0))
    assert [plot.stem for plot in plots(alone, "test", ["a", "b", "c"], "kind")] == ["confusion"]


CIRCLE = ["x,z,y", *(f"{np.cos(a):.4f},{np.sin(a):.4f},{'in' if a < 3 else 'out'}" for a in np.linspace(0, 6, 80))]


@pytest.mark.parametrize(
    ("rows", "family", "split", "stems"),
    [
        (CIRCLE, "LogisticRegression", {}, {"loss", "confusion", "roc", "precision-recall"}),
        (None, "LinearRegression", {}, {"loss", "residuals"}),
        (None, "LinearRegression", {"testPercent": 0}, {"loss", "residuals"}),
        (None, "LinearRegression", {"testPercent": 0, "validationPercent": 0}, {"loss"}),
    ],
)
def test_a_bundle_holds_the_pictures_of_its_task_and_its_card_shows_them(job, rows, family, split, stems):
    config = job(rows, family=family, data={"split": split}, training={"epochs": 3})
    driver.run(config, Progress(config, Reporter(None)))
    store = Store(config.output)
    files = read_bundle(store).manifest.files
    pictures = [name for name in files if name.endswith(".svg")]
    assert {re.sub(r"-[0-9a-f]{16}\.svg$", "", name) for name in pictures} == stems
    [card] = [name for name in files if name.endswith(".md")]
    for name in pictures:
        ElementTree.fromstring(store.read(name))  # noqa: S314 - our own
        assert f"]({name})" in store.read(card).decode()

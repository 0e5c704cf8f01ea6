"""The model card: what a person should know before using the model."""

from collections.abc import Mapping
from html import escape

from eagleray_runtime.bundle.manifest import IMAGE, TEXT, Manifest
from eagleray_runtime.contract.blocks import Family
from eagleray_runtime.contract.reports import Metric
from eagleray_runtime.data.preparation import AnyColumn

TASKS = {"Regression": "regression", "Classification": "classification", "LanguageModeling": "the continuation"}


def _input(column: AnyColumn) -> str:
    match column.kind:
        case "Image":
            height, width, channels = column.shape
            files = "PNG or JPEG files, resized to" if column.form == "Files" else "numbers of"
            return f"input `{IMAGE}`: images, {files} {height} x {width} pixels and {channels} channels"
        case "Text":
            return f"input `{TEXT}`: text, up to {column.max_tokens} tokens at a time of {column.vocabulary} different ones"
        case "Numeric":
            return f"input column `{column.name}` (numeric)"
        case _:
            return f"input column `{column.name}` (categorical)"


def _window(manifest: Manifest) -> list[str]:
    sequence = manifest.sequence
    if sequence is None:
        return []
    series = f" of one {sequence.group_column}" if sequence.group_column else ""
    return [
        f"- {sequence.window_steps} rows{series} at a time, in the order of {sequence.time_column}; what is predicted is "
        f"{manifest.target} {sequence.horizon_steps} rows after the last of them"
    ]


def _spread(metric: Metric) -> str:
    if metric.low is not None and metric.high is not None:
        return f"{metric.low:.6g} to {metric.high:.6g}"
    return "" if metric.deviation is None else f"deviation {metric.deviation:.6g} between the folds"


def _fitted(manifest: Manifest) -> str:
    if manifest.lineage.started_from is not None or manifest.family is Family.PRETRAINED:
        return "is that of the model from which training started"
    return "was fitted on the training rows alone"


def model_card(manifest: Manifest, plots: Mapping[str, str]) -> str:
    """Markdown; every figure in it is also in the manifest or the job's status. `plots` are titles by file name."""
    lineage, data = manifest.lineage, manifest.data
    rows = [f"| {metric.name} | {metric.part} | {metric.value:.6g} | {_spread(metric)} |" for metric in manifest.metrics]
    confidence = f"{manifest.confidence_percent} % interval" if manifest.confidence_percent else "interval"
    lines = [
        f"# {lineage.name}",
        "",
        f"{manifest.family} for {TASKS[manifest.task]} of `{manifest.target}`, trained with {manifest.engine}.",
        "",
        "## What it takes and gives",
        "",
        *(f"- {_input(column)}" for column in manifest.preparation.columns),
        *_window(manifest),
        *(f"- output `{tensor.name}` {tensor.datatype} {tensor.shape}" for tensor in manifest.signature.outputs),
        *([f"- classes: {', '.join(manifest.classes)}"] if manifest.classes else []),
        "",
        "## How good it is",
        "",
        f"| metric | part | value | {confidence} |",
        "| --- | --- | --- | --- |",
        *rows,
        "",
        *(f"![{escape(title)}]({name})" for name, title in plots.items()),
        "",
        "## How it was made",
        "",
        f"- {lineage.kind} {lineage.namespace}/{lineage.name}, generation {lineage.generation}",
        f"- {data.rows} rows read: {data.training} to train, {data.validation} to validate, {data.test} to test, "
        f"{data.dropped} dropped; values of {data.changed} replaced or clipped",
        f"- {manifest.architecture.words} ({manifest.architecture.parameters} parameters)",
        f"- seed {lineage.seed}, split seed {lineage.split_seed}",
        *([f"- started from {lineage.started_from}"] if lineage.started_from else []),
        f"- data {data.digest}",
        *(f"- {note}" for note in data.notes),
        "",
        f"The preparation of the columns {_fitted(manifest)} and is applied by the server.",
        *(
            ["A category that was not among the rows of its fitting counts as none of the known ones."]
            if any(column.kind in ("Categorical", "Ordinal") for column in manifest.preparation.columns)
            else []
        ),
    ]
    if manifest.coefficients:
        lines += ["", "## Coefficients in original units", ""]
        for coefficients in manifest.coefficients:
            terms = " ".join(f"{value:+.6g} * {name}" for name, value in coefficients.weights.items())
            lines.append(f"- {coefficients.output} = {coefficients.intercept:.6g} {terms}")
    return "\n".join([*lines, ""])

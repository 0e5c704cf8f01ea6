"""The model card: what a person should know before using the model."""

from eagleray_runtime.bundle.manifest import Manifest


def model_card(manifest: Manifest, plot: str) -> str:
    """Markdown; every figure in it is also in the manifest or the job's status."""
    lineage, data = manifest.lineage, manifest.data
    rows = [f"| {metric.name} | {metric.part} | {metric.value:.6g} |" for metric in manifest.metrics]
    layers = " - ".join(
        str(width) for width in (manifest.architecture.inputs, *manifest.architecture.hidden, manifest.architecture.outputs)
    )
    lines = [
        f"# {lineage.name}",
        "",
        f"{manifest.family} for {manifest.task.lower()} of `{manifest.target}`, trained with {manifest.engine}.",
        "",
        "## What it takes and gives",
        "",
        *(
            f"- input column `{column.name}` ({'numeric' if column.kind == 'Numeric' else 'categorical'})"
            for column in manifest.preparation.columns
        ),
        *(f"- output `{tensor.name}` {tensor.datatype} {tensor.shape}" for tensor in manifest.signature.outputs),
        *([f"- classes: {', '.join(manifest.classes)}"] if manifest.classes else []),
        "",
        "## How good it is",
        "",
        "| metric | part | value |",
        "| --- | --- | --- |",
        *rows,
        "",
        f"![loss over the epochs]({plot})",
        "",
        "## How it was made",
        "",
        f"- {lineage.kind} {lineage.namespace}/{lineage.name}, generation {lineage.generation}",
        f"- {data.rows} rows read: {data.training} to train, {data.validation} to validate, {data.test} to test, "
        f"{data.dropped} dropped; values of {data.changed} replaced or clipped",
        f"- layers {layers} ({manifest.architecture.parameters} parameters)",
        f"- seed {lineage.seed}, split seed {lineage.split_seed}",
        f"- data {data.digest}",
        *(f"- {note}" for note in data.notes),
        "",
        "The preparation of the columns was fitted on the training rows alone and is applied by the server.",
        *(
            ["A category that was not among them counts as none of the known ones."]
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

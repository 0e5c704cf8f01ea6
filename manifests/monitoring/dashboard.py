"""The Grafana dashboard as code: `python -m manifests.monitoring.dashboard` writes it, and the chart's copies beside it.

Models and jobs are on one dashboard. The data source is a variable, the uid stable, so that a link to it keeps working.
"""

import sys
from pathlib import Path

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import GraphThresholdsStyleMode, LegendDisplayMode, LegendPlacement, TooltipDisplayMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    DataTransformerConfig,
    Threshold,
    ThresholdsMode,
    VariableHide,
    VariableOption,
    VariableRefresh,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

FOLDER = Path(__file__).parent
CHART_FILES = FOLDER.parents[1] / "helm" / "eagleray" / "files"
COPIED = ("dashboard.json", "alerts.yaml")

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
JOB = 'namespace=~"$namespace",name=~"$job"'
DEPLOYMENT = 'namespace=~"$namespace",name=~"$deployment"'
NAMESPACE = 'namespace=~"$namespace"'
PODS = 'namespace=~"$namespace",ray_io_cluster!=""'
RATE = "$__rate_interval"


def _target(
    expression: str, legend: str = "", *, letter: str = "A", instant: bool = False, as_table: bool = False
) -> prometheus.Dataquery:
    query = prometheus.Dataquery().ref_id(letter).expr(expression).legend_format(legend).datasource(SOURCE)
    if instant:
        query = query.instant()
    return query.format(PromQueryFormat.TABLE) if as_table else query


def _graph(
    title: str, description: str, unit: str, *queries: tuple[str, str], low: float | None = 0, high: float | None = None
) -> timeseries.Panel:
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM).show_legend(True)
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .height(8)
        .span(8)
        .legend(legend)
        .fill_opacity(8)
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    if low is not None:
        panel = panel.min(low)
    if high is not None:
        panel = panel.max(high)
    for letter, (expression, label) in zip("ABCD", queries, strict=False):
        panel = panel.with_target(_target(expression, label, letter=letter))
    return panel


def _number(title: str, description: str, expression: str, *, unit: str = "short", bad_from: float | None = None) -> stat.Panel:
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .height(4)
        .span(3)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_target(expression, instant=True))
    )
    if bad_from is None:
        return panel
    steps = [Threshold(value=None, color="green"), Threshold(value=bad_from, color="red")]
    return panel.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))


def _overview(board: dashboard.Dashboard) -> None:
    board.with_row(dashboard.Row("Overview"))
    for panel in (
        _number(
            "Jobs at work",
            "TrainingJobs that are neither finished nor suspended.",
            "count(eagleray_trainingjob_condition"
            f'{{condition="Succeeded",status="Unknown",reason!~"Suspended.*",{JOB}}}) or vector(0)',
        ),
        _number(
            "Jobs succeeded",
            "TrainingJobs with a saved model.",
            f'count(eagleray_trainingjob_condition{{condition="Complete",status="True",{JOB}}}) or vector(0)',
        ),
        _number(
            "Jobs failed",
            "TrainingJobs that ended without a model; the reason is in the table below.",
            f'count(eagleray_trainingjob_condition{{condition="Failed",status="True",{JOB}}}) or vector(0)',
            bad_from=1,
        ),
        _number(
            "Deployments ready",
            "ModelDeployments that answer.",
            f'count(eagleray_modeldeployment_condition{{condition="Ready",status="True",{DEPLOYMENT}}}) or vector(0)',
        ),
        _number(
            "Deployments not ready",
            "ModelDeployments that do not answer though they should.",
            "count(eagleray_modeldeployment_condition"
            f'{{condition="Ready",status!="True",reason!="SwitchedOff",{DEPLOYMENT}}}) or vector(0)',
            bad_from=1,
        ),
        _number(
            "Replicas ready",
            "Replicas that answer.",
            f"sum(eagleray_modeldeployment_replicas_ready{{{DEPLOYMENT}}}) or vector(0)",
        ),
        _number("GPUs in use", "GPUs of running pods.", f"sum(eagleray_gpus_in_use{{{NAMESPACE}}}) or vector(0)"),
        _number(
            "GPUs waited for",
            "GPUs that pods ask for and have not got.",
            f"sum(eagleray_gpus_requested{{{NAMESPACE}}} - eagleray_gpus_in_use{{{NAMESPACE}}}) or vector(0)",
            bad_from=1,
        ),
    ):
        board.with_panel(panel)


def _state_table(title: str, description: str, expression: str, hidden: tuple[str, ...], names: dict[str, str]) -> table.Panel:
    organize = DataTransformerConfig(
        id_val="organize",
        options={
            "excludeByName": dict.fromkeys(("Time", "Value", "__name__", "instance", "job", *hidden), True),
            "renameByName": names,
        },
    )
    return (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .height(8)
        .span(8)
        .filterable(True)
        .with_target(_target(expression, instant=True, as_table=True))
        .with_transformation(organize)
    )


def _jobs(board: dashboard.Dashboard) -> None:
    board.with_row(dashboard.Row("Training jobs"))
    names = {"namespace": "Namespace", "name": "Job", "status": "Progressing", "reason": "Reason"}
    for panel in (
        _state_table(
            "State of the jobs",
            "What each job is doing, or why it does nothing. kubectl describe tells more.",
            f'sum by (namespace, name, status, reason) (eagleray_trainingjob_condition{{condition="Progressing",{JOB}}})',
            (),
            names,
        ),
        _graph(
            "Progress",
            "Share of the whole job that is done.",
            "percentunit",
            (f"eagleray_trainingjob_progress_ratio{{{JOB}}}", "{{namespace}}/{{name}}"),
            high=1,
        ),
        _graph(
            "Loss",
            "Newest loss on the training and the validation part.",
            "short",
            (f"eagleray_trainingjob_loss{{{JOB}}}", "{{namespace}}/{{name}} {{part}}"),
            low=None,
        ),
        _graph(
            "Workers", "Workers that train now.", "short", (f"eagleray_trainingjob_workers{{{JOB}}}", "{{namespace}}/{{name}}")
        ),
        _graph(
            "Epochs",
            "Finished passes over the training part.",
            "short",
            (f"eagleray_trainingjob_epoch{{{JOB}}}", "{{namespace}}/{{name}}"),
        ),
        _graph(
            "Time to success",
            "From the creation of a job until it succeeded, of the jobs of the last day.",
            "s",
            ("histogram_quantile(0.5, sum by (le) (increase(eagleray_time_to_succeeded_seconds_bucket[1d])))", "median"),
            ("histogram_quantile(0.95, sum by (le) (increase(eagleray_time_to_succeeded_seconds_bucket[1d])))", "95 %"),
        ),
    ):
        board.with_panel(panel)


def _models(board: dashboard.Dashboard) -> None:
    board.with_row(dashboard.Row("Models"))
    names = {"namespace": "Namespace", "name": "Deployment", "status": "Ready", "reason": "Reason"}
    by_model = "sum by (namespace, model)"
    latency = f"rate(ray_eagleray_model_latency_seconds_bucket{{{NAMESPACE}}}[{RATE}])"
    requests = f"ray_eagleray_model_requests_total{{{NAMESPACE}}}"
    failed = f'ray_eagleray_model_requests_total{{{NAMESPACE},code=~"5.."}}'
    for panel in (
        _state_table(
            "State of the deployments",
            "Whether each deployment answers, or why it does not. kubectl describe tells more.",
            f'sum by (namespace, name, status, reason) (eagleray_modeldeployment_condition{{condition="Ready",{DEPLOYMENT}}})',
            (),
            names,
        ),
        _graph(
            "Requests",
            "Inference requests answered each second.",
            "reqps",
            (f"{by_model} (rate({requests}[{RATE}]))", "{{namespace}}/{{model}}"),
        ),
        _graph(
            "Errors",
            "Share of the requests that the server failed (5xx).",
            "percentunit",
            (
                f"({by_model} (rate({failed}[{RATE}])) or {by_model} (rate({requests}[{RATE}])) * 0)"
                f" / ({by_model} (rate({requests}[{RATE}])) > 0)",
                "{{namespace}}/{{model}}",
            ),
        ),
        _graph(
            "Latency",
            "Time from a request to its answer within a replica.",
            "s",
            (f"histogram_quantile(0.5, sum by (namespace, model, le) ({latency}))", "{{namespace}}/{{model}} median"),
            (f"histogram_quantile(0.99, sum by (namespace, model, le) ({latency}))", "{{namespace}}/{{model}} 99 %"),
        ),
        _graph(
            "Replicas",
            "Replicas that there should be, and those that answer.",
            "short",
            (f"eagleray_modeldeployment_replicas_desired{{{DEPLOYMENT}}}", "{{namespace}}/{{name}} desired"),
            (f"eagleray_modeldeployment_replicas_ready{{{DEPLOYMENT}}}", "{{namespace}}/{{name}} ready"),
        ),
        _graph(
            "Time to ready",
            "From the creation of a deployment until it was first Ready, of the deployments of the last day.",
            "s",
            ("histogram_quantile(0.5, sum by (le) (increase(eagleray_time_to_ready_seconds_bucket[1d])))", "median"),
            ("histogram_quantile(0.95, sum by (le) (increase(eagleray_time_to_ready_seconds_bucket[1d])))", "95 %"),
        ),
    ):
        board.with_panel(panel)


def _pods(board: dashboard.Dashboard) -> None:
    board.with_row(dashboard.Row("Ray pods"))
    for panel in (
        _graph(
            "CPU",
            "Use of the CPU of each cluster's pods, of what Ray sees.",
            "percent",
            (f"avg by (namespace, ray_io_cluster) (ray_node_cpu_utilization{{{PODS}}})", "{{namespace}}/{{ray_io_cluster}}"),
        ),
        _graph(
            "Memory",
            "Memory in use, of what the pods may take.",
            "percentunit",
            (
                f"sum by (namespace, ray_io_cluster) (ray_node_mem_used{{{PODS}}})"
                f" / sum by (namespace, ray_io_cluster) (ray_node_mem_total{{{PODS}}})",
                "{{namespace}}/{{ray_io_cluster}}",
            ),
            high=1,
        ),
        _graph(
            "GPUs",
            "GPUs that the pods of a resource ask for, and those of running pods.",
            "short",
            (f"eagleray_gpus_requested{{{NAMESPACE}}} > 0", "{{namespace}}/{{name}} requested"),
            (f"eagleray_gpus_in_use{{{NAMESPACE}}} > 0", "{{namespace}}/{{name}} in use"),
        ),
    ):
        board.with_panel(panel)


def _operator(board: dashboard.Dashboard) -> None:
    board.with_row(dashboard.Row("Operator"))
    for panel in (
        _graph(
            "Reconciles",
            "Reconciles each second by result.",
            "ops",
            (f"sum by (kind, result) (rate(eagleray_reconcile_total[{RATE}]))", "{{kind}} {{result}}"),
        ),
        _graph(
            "Duration of a reconcile",
            "99 % of the reconciles are at least as fast.",
            "s",
            (
                f"histogram_quantile(0.99, sum by (kind, le) (rate(eagleray_reconcile_seconds_bucket[{RATE}])))",
                "{{kind}}",
            ),
        ),
        _graph(
            "Queue",
            "Resources that wait to be reconciled, and how long 99 % of them wait at most.",
            "short",
            ("sum(eagleray_queue_depth)", "waiting"),
            (f"histogram_quantile(0.99, sum by (le) (rate(eagleray_queue_wait_seconds_bucket[{RATE}])))", "seconds"),
        ),
        _graph(
            "Requests to the apiserver",
            "Requests each second by verb and HTTP status.",
            "reqps",
            (f"sum by (verb, code) (rate(eagleray_api_requests_total[{RATE}]))", "{{verb}} {{code}}"),
        ),
        _graph(
            "Reports of the runtime",
            "Reports each second by type and by the status that answered them.",
            "reqps",
            (f"sum by (type, code) (rate(eagleray_reports_total[{RATE}]))", "{{type}} {{code}}"),
        ),
        _graph("Leaders", "There should be one.", "short", ("sum(eagleray_leader)", "leaders"), high=2).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.OFF)
        ),
    ):
        board.with_panel(panel)


def _names_variable(name: str, label: str, query: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(VariableOption(selected=True, text="All", value="$__all"))
    )


def build() -> dashboard.Dashboard:
    """The whole dashboard."""
    board = (
        dashboard.Dashboard("Eagleray: models and jobs")
        .uid("eagleray-models-and-jobs")
        .description("Training jobs and model deployments: what they do, how they do, and the operator that looks after them.")
        .tags(["eagleray", "ray", "machine-learning"])
        .refresh("30s")
        .time("now-3h", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus").hide(VariableHide.DONT_HIDE)
        )
        .with_variable(
            _names_variable(
                "namespace", "Namespace", 'label_values({__name__=~"eagleray_(trainingjob|modeldeployment)_info"}, namespace)'
            )
        )
        .with_variable(_names_variable("job", "Job", 'label_values(eagleray_trainingjob_info{namespace=~"$namespace"}, name)'))
        .with_variable(
            _names_variable(
                "deployment", "Deployment", 'label_values(eagleray_modeldeployment_info{namespace=~"$namespace"}, name)'
            )
        )
    )
    for part in (_overview, _jobs, _models, _pods, _operator):
        part(board)
    return board


def rendered() -> str:
    """The dashboard as Grafana reads it."""
    board = build().build()
    for number, panel in enumerate(board.panels or [], start=1):
        panel.id_val = number
    return f"{JSONEncoder(sort_keys=True, indent=2).encode(board)}\n"


def files() -> dict[Path, str]:
    """Every file that is made from this one, with its content: the dashboard, and what the chart ships."""
    made = {FOLDER / "dashboard.json": rendered()}
    for name in COPIED:
        source = FOLDER / name
        made[CHART_FILES / name] = made.get(source) or source.read_text(encoding="utf-8")
    return made


def main() -> None:
    """Write the files; with --check, fail if they are not what would be written."""
    if sys.argv[1:] == ["--check"]:
        stale = [str(path) for path, text in files().items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
        sys.exit(f"not as `make generate` writes them: {', '.join(stale)}" if stale else 0)
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

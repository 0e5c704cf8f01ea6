"""Training by the torch engine in the test's own process, without Ray: what a single worker does, epoch by epoch."""

from eagleray_runtime.arrays import AnyArray
from eagleray_runtime.bundle.writing import write_bundle
from eagleray_runtime.contract.config import TrainingConfig
from eagleray_runtime.data.dataset import Dataset, load
from eagleray_runtime.models.predictor import evaluating
from eagleray_runtime.reports import Reporter
from eagleray_runtime.storage import Store
from eagleray_runtime.training import driver
from eagleray_runtime.training.evaluation import evaluate
from eagleray_runtime.training.outcome import Outcome
from eagleray_runtime.training.plan import Plan, decide
from eagleray_runtime.training.progress import Progress


class HereRun:
    """A run of one worker."""

    def __init__(self, config: TrainingConfig) -> None:
        import torch

        from eagleray_runtime.training.torch_engine import Run, _arrays

        self.config = config
        self.dataset: Dataset = load(config)
        self.plan: Plan = decide(config, self.dataset)[0]
        self.run = Run(self.plan, torch.device("cpu"), 0, 1)
        parts = (self.dataset.training, self.dataset.validation)
        self.training, self.validation = (tuple(torch.from_numpy(values) for values in _arrays(part)) for part in parts)

    def to_the_end(self, epochs: int | None = None) -> "HereRun":
        """Train until it is over, or until so many epochs are finished."""
        from eagleray_runtime.training.torch_engine import _epoch, _held_out

        while not self.run.course.is_over and self.run.course.epoch != epochs:
            loss = _epoch(self.run, self.run.network, self.training) / len(self.training[1]) * self.plan.unit
            held, metric = _held_out(self.run, self.validation, self.dataset.preparation.target)
            if self.run.course.end_epoch(loss, held / max(1, len(self.validation[1])) * self.plan.unit, metric):
                self.run.keep_best()
        return self

    def save(self) -> None:
        """Write the bundle, as the driver does when training has ended."""
        course = self.run.course
        outcome = Outcome(self.state, course.history.points, course.epoch, course.step, 1, 0, course.chosen)
        draft = driver._draft(self.config, self.plan, self.dataset, outcome, [], Progress(self.config, Reporter(None)))
        write_bundle(Store(self.config.output), draft, outcome.parameters)

    @property
    def state(self) -> dict[str, AnyArray]:
        """Parameters and buffers by name, as NumPy arrays."""
        found = self.run.best or self.run.network.state_dict()
        return {name: values.detach().numpy().copy() for name, values in found.items()}

    def metrics(self) -> dict[tuple[str, str], float]:
        """Metrics of the model by name and part."""
        predict = evaluating(self.plan.architecture, self.state)
        found = evaluate(predict, self.plan.architecture.head, self.dataset, self.plan.metrics, 95, 0)
        return {(metric.name, metric.part): metric.value for metric in found}

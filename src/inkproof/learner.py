"""The Learner trains one model on one split. Its `epochs` is THE training loop; all else is around it."""

import copy
import sys
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn

from inkproof import audit, heads, lr_find, schedules
from inkproof.audit import OnFinding
from inkproof.augment import Augmentation
from inkproof.batch_norm import clean_batches, measure_statistics
from inkproof.batches import (
    BatchSource,
    Data,
    difficulties_of,
    epoch_lengths,
    is_shuffled,
    ordered_batches,
    sample_rows,
    training_batches,
)
from inkproof.captured import CapturedStep
from inkproof.errors import InputError, NotFinite
from inkproof.finite import keeps_weights
from inkproof.hard_examples import HardExamples
from inkproof.heads import Head, HeadName, Loss
from inkproof.history import History, LiveTable, Row, ending_on_ctrl_c, notebook_display
from inkproof.images import ImageSet, matching
from inkproof.metrics import Metric, accuracy
from inkproof.models import MeanImage
from inkproof.objective import Objective, name_of
from inkproof.optimizers import SGD, OptimizerFactory, make_optimizer, set_step_values
from inkproof.prediction import Predictor
from inkproof.randomness import Streams
from inkproof.runtime import DeviceName, Precision, choose_device, keep_freed_memory, known_precision, place
from inkproof.schedules import Schedule
from inkproof.stem import stem_of
from inkproof.stepper import Stepper
from inkproof.steps import BrokenPass, collect_outputs, evaluating, fit_means, forward
from inkproof.weights import copied_weights


class Learner:
    """Trains one model on one split and predicts with it.

    Making one tells glibc, process-wide, to keep freed memory (`runtime.keep_freed_memory`, which also undoes it).

    Args:
        model: an `nn.Module`, trained in place from the weights it has; or a function that builds one, whose
            initial weights are then drawn from the seed.
        train: the images to train on; or a torch dataset or loader of (inputs, targets), taken as it comes.
        valid: the images to validate on; None trains without.
        head: what the outputs mean; None takes it from the number of outputs and classes.
        loss: takes outputs and targets of a batch, gives a scalar; None takes the head's.
        optimizer: a torch optimiser class or a function like one, called with the parameters and `lr=`.
        metrics: take outputs and targets of the whole validation side, give a number; None is accuracy.
        batch_size: images a step.
        seed: of initial weights, order, augmentation and dropout, each a stream of its own.
        order_seed: of the order alone; None takes `seed`.
        device: "auto" takes CUDA where there is one.
        precision: "bfloat16" computes in mixed precision; losses, weights and what small linear layers do stay float32.
        augment: alters training images, batch by batch.
        shuffle: a new order of the training images every epoch; False keeps the order of the data; None keeps it too,
            and is warned of. A loader's own order is kept.
        hard_examples: epochs of the hardest images and some of the others, but for the first.
        clean_statistics: each epoch ends with batch normalisation's statistics measured on images as they are.
        stem_learns: share of the steps of a training in which the first block learns (`stem`); 1 is all of them.
        pretrained: the model brings trained weights, and is trained on from them: fine-tuning.
        on_finding: what findings of the audit do: "refuse" raises, "warn" warns, "record" only keeps them.
        allow: ids of findings that may pass.

    Attributes:
        model, head, loss, metrics, objective (the three, read-only), optimizer, history, findings, seed, device.

    Raises:
        Refused: the audit refused data, model or metrics.
        InputError: arguments that do not fit together.

    Example:
        >>> from inkproof import models
        >>> from inkproof.sources import open_images
        >>> train, valid = open_images("digits").split(valid=0.2)
        >>> learner = Learner(lambda: models.linear(train.shape, 10), train, valid, seed=0)
        >>> history = learner.fit(2, lr=0.1, verbose=False)
        >>> history[-1].metrics["accuracy"] > 0.8
        True
    """

    def __init__(
        self,
        model: nn.Module | Callable[[], nn.Module],
        train: Data,
        valid: Data | None = None,
        *,
        head: HeadName | None = None,
        loss: Loss | None = None,
        optimizer: OptimizerFactory = SGD,
        metrics: Sequence[Metric] | None = None,
        batch_size: int = 64,
        seed: int = 0,
        order_seed: int | None = None,
        device: DeviceName = "auto",
        precision: Precision = "float32",
        augment: Augmentation | None = None,
        shuffle: bool | None = True,
        hard_examples: HardExamples | None = None,
        clean_statistics: bool = False,
        stem_learns: float = 1.0,
        pretrained: bool = False,
        on_finding: OnFinding = "refuse",
        allow: Collection[str] = (),
    ):
        self.seed = seed
        self.device = choose_device(device)
        self.precision = known_precision(precision)
        self.batch_size = batch_size
        self.history = History()
        self.interrupted = False
        self.lr_curve: lr_find.LRCurve | None = None
        self._best: dict[str, Any] | None = None  # of the training under way: epoch, valid_loss, weights
        self._taken = {"epochs": 0, "steps": 0}  # of the training under way
        self._streams = Streams(seed, shuffle=order_seed)
        self._record = audit.Record(on_finding, allow)
        self.findings = self._record.findings
        keep_freed_memory()

        self.train, self.valid = train, valid
        if isinstance(train, ImageSet):
            train.require_labels("training")
            if isinstance(valid, ImageSet):
                valid.require_labels("validation")
                self.valid = valid = matching(valid, train)
        sides = audit.side_of(self.train), audit.side_of(self.valid)
        self._record.act(audit.check_sides(*sides))
        self._record.act(audit.look("reading", audit.Reading(self.train, self.valid, sides[0], augment)))
        self.training_batches = training_batches(
            self.train,
            batch_size=batch_size,
            device=self.device,
            shuffle=self._streams["shuffle"] if shuffle else None,
            augment=augment,
            generator=self._streams["augment"],
            hard_examples=hard_examples,
        )
        self._difficulties = difficulties_of(self.training_batches)
        self.validation_batches = None if self.valid is None else ordered_batches(self.valid, device=self.device)

        self.model = self._build(model)
        self._clean_batches = clean_batches(self.model, self.train, device=self.device) if clean_statistics else None
        self._stem = stem_of(self.model, stem_learns)
        inputs, labels = sample_rows(self.train, device=self.device)
        sample = self._outputs_of(inputs)
        chosen_head = heads.choose_head(head, len(train.classes) if isinstance(train, ImageSet) else None, sample)
        audit.check_outputs(chosen_head, sample)
        wanted_loss = loss or chosen_head.loss
        self.objective = Objective(
            chosen_head,
            wanted_loss,
            (accuracy,) if metrics is None else tuple(metrics),
            heads.find_activation(self.model, sample, wanted_loss),
            targets_as_given=loss is not None and not isinstance(self.train, ImageSet),
        )
        self.optimizer = make_optimizer(optimizer, self.model)
        self._captured = CapturedStep(self.model) if self.device.type == "cuda" else None
        setup = audit.Setup(
            self.model,
            self.optimizer,
            self.loss,
            {name_of(metric): metric for metric in self.metrics},
            self.head,
            self.objective.activation,
            pretrained=pretrained,
            targets_as_given=self.objective.targets_as_given,
            shuffled=is_shuffled(self.train, shuffle),
            batch_size=batch_size,
        )
        self._inspection = audit.Inspection(sides, setup, inputs, labels, sample, name_of(self.loss))
        self._record.act(self._inspection.before())
        self._steps = 0

    @property
    def head(self) -> Head:
        """What the outputs mean."""
        return self.objective.head

    @property
    def loss(self) -> Loss:
        """What is minimised."""
        return self.objective.loss

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What the validation side is judged by."""
        return self.objective.metrics

    # -- training --------------------------------------------------------------------------------------------

    def epochs(self, epochs: int, schedule: Schedule, *, done: int = 0) -> Iterator[Row]:
        """Train epoch by epoch, yielding the history's row after each; whoever iterates may stop at any row.

        Ctrl-C inside an epoch puts everything back to the end of the last whole one and passes on.

        Args:
            epochs: length of the whole training; the schedule is stretched over it.
            schedule: learning rate, or learning rate and momentum, of each step; the weights may not be that far yet,
                and an epoch that is taken again asks again.
            done: epochs of this training that earlier calls did, when it is resumed.

        Raises:
            NotFinite: the loss or a gradient became NaN or infinite; the message names the step.
        """
        taken = self._steps_of(done)
        lengths = epoch_lengths(self.training_batches, epochs - done)
        steps, again = taken + sum(lengths), True  # again: until a pass breaks, as those after it might
        for length in lengths:
            before = self.state_dict()
            started = perf_counter()
            try:
                try:
                    train_loss = self._train_epoch(schedule, taken, steps, again=again)
                except BrokenPass:
                    self.load_state_dict(before)
                    again = False
                    train_loss = self._train_epoch(schedule, taken, steps, again=again)
                trained = perf_counter()
                judged = (None, {}) if self.validation_batches is None else self._judge(self.validation_batches)
            except KeyboardInterrupt:
                self.load_state_dict(before)
                raise
            except NotFinite:
                if self.device.type == "cuda" and not keeps_weights(self.optimizer):
                    self.load_state_dict(before)
                raise
            taken, done = taken + length, done + 1
            self._taken = {"epochs": done, "steps": taken}
            yield self.add_row(train_loss, judged, trained - started, perf_counter() - started)

    def _steps_of(self, done: int) -> int:
        """Steps of the first so many epochs of the training under way."""
        if self._taken["epochs"] == done:
            return self._taken["steps"]
        if done and self._difficulties is not None:
            raise InputError(f"{done} epochs are said to be done, {self._taken['epochs']} are known: load their state")
        return done * len(self.training_batches)

    def add_row(
        self, train_loss: float, judged: tuple[float | None, dict[str, float]], train_seconds: float, seconds: float
    ) -> Row:
        """Add an epoch to the history: its training loss, what validation gave, what training and all of it took."""
        row = Row(len(self.history) + 1, train_loss, *judged, seconds=seconds, train_seconds=train_seconds)
        self.history.rows.append(row)
        return row

    def finish(self, steps: int = 0) -> None:
        """Look at what a training came to, after so many steps that were taken from outside."""
        if steps:
            self._steps += steps
            audit.record_steps(self.model, self._steps, begun_with=self._inspection.begun_with)
        self._check_outcome()

    def _train_epoch(self, schedule: Schedule, first_step: int, steps: int, *, again: bool) -> float:
        """One pass over the training batches; returns the mean loss a row.

        Raises:
            BrokenPass: it can be taken `again`, and must, step by step.
        """
        if isinstance(self.model, MeanImage):
            fit_means(self.model, self.training_batches)
            return self._judge(self.training_batches)[0]
        losses: list[Tensor] = []
        sizes, stepper = [], self.stepper()
        values = schedules.values_of_a_pass(schedule, first_step, steps, epoch_lengths(self.training_batches, 1)[0])
        quickest = stepper.quickest(self.training_batches, self.device, losses, again=again)
        self.model.train()
        with self._streams.as_global("model"), quickest as (plan, batches), self._stem:
            for step, (inputs, labels) in enumerate(batches, start=first_step):
                self._stem.before(step, steps)
                set_step_values(stepper.optimizer, next(values))
                losses.append(stepper.step(inputs, labels, step, plan))
                sizes.append(labels.shape[0])  # len() of a tensor takes as long as three operations
            if self._clean_batches is not None:
                measure_statistics(self.model, self._clean_batches, precision=self.precision)
        self._steps += len(losses)
        audit.record_steps(self.model, self._steps, begun_with=self._inspection.begun_with)
        every = torch.stack(losses).double().cpu()
        self._record.check_losses(every, first_step)
        return float(every @ torch.tensor(sizes, dtype=torch.float64) / sum(sizes))

    def stepper(self) -> Stepper:
        """What takes the steps of a training of the model as it is now.

        Raises:
            InputError: there is nothing to train.
        """
        if self.optimizer is None:
            raise InputError("the model has no parameters that can be trained: set requires_grad on those that should")
        return Stepper(
            self.model, self.optimizer, self.objective, self.precision, self._record, self._difficulties, self._captured
        )

    def fit(
        self,
        epochs: int,
        lr: float,
        *,
        patience: int | None = None,
        keep_best: bool = False,
        log: Path | str | None = None,
        verbose: bool = True,
    ) -> History:
        """Train with a constant learning rate, on from where the model stands; gives the model's whole history.

        Ctrl-C ends it cleanly: model and history are those of the last whole epoch, and `interrupted` is set.

        Args:
            epochs: how many.
            lr: learning rate.
            patience: stop after this many epochs without a smaller validation loss.
            keep_best: end with the weights of the epoch with the smallest validation loss.
            log: a CSV file that holds the history after every epoch.
            verbose: show the table as it grows.
        """
        return self._fit(epochs, schedules.constant(lr), patience, keep_best, log, verbose)

    def fit_one_cycle(
        self,
        epochs: int,
        lr: float,
        *,
        patience: int | None = None,
        keep_best: bool = False,
        log: Path | str | None = None,
        verbose: bool = True,
    ) -> History:
        """Train with one cycle of the learning rate up to `lr` and down; otherwise as `fit`."""
        return self._fit(epochs, schedules.one_cycle(lr), patience, keep_best, log, verbose)

    def _fit(
        self,
        epochs: int,
        schedule: Schedule,
        patience: int | None,
        keep_best: bool,
        log: Path | str | None,
        verbose: bool,
    ) -> History:
        self._best = None
        table = LiveTable() if verbose else None
        rows = self.follow(self.epochs(epochs, schedule), patience=patience, keep_best=keep_best)
        with ending_on_ctrl_c(rows):
            for row in rows:
                if table is not None:
                    table.add(row)
                if log is not None:
                    self.history.to_csv(Path(log))
        return self.history

    def follow(
        self, rows: Iterable[Row], *, patience: int | None = None, keep_best: bool = False
    ) -> Generator[Row, None, None]:
        """Pass on rows of `epochs`, stopping early, keeping the best weights, ending cleanly on Ctrl-C.

        Args:
            rows: of `epochs`; of a resumed training, with `done`.
            patience: stop after this many epochs without a smaller validation loss.
            keep_best: when the rows end, take the weights of the epoch with the smallest validation loss.
        """
        if (patience is not None or keep_best) and self.valid is None:
            raise InputError("patience and keep_best compare validation losses: give the Learner a validation side")
        self.interrupted = False
        try:
            for row in rows:
                if self._best is None or row.rank < self._best["valid_loss"]:
                    weights = copied_weights(self.model) if keep_best else None
                    self._best = {"epoch": row.epoch, "valid_loss": row.rank, "weights": weights}
                yield row
                if patience is not None and row.epoch - self._best["epoch"] >= patience:
                    break
        except KeyboardInterrupt:
            self.interrupted = True
            print(f"interrupted: kept the model as it was after epoch {len(self.history)}", file=sys.stderr)
        if keep_best and self._best is not None:
            self.model.load_state_dict(self._best["weights"])
        self._check_outcome()

    def lr_find(
        self, *, start_lr: float = 1e-7, end_lr: float = 10.0, steps: int = 100, plot: bool = True
    ) -> lr_find.SuggestedLRs:
        """Suggest learning rates from a mock training on copies; nothing of the Learner changes.

        The curve stays in `lr_curve`.

        Args:
            start_lr: the ramp's first rate.
            end_lr: the rate that the ramp rises towards.
            steps: length of the ramp.
            plot: in a notebook, show the curve.
        """
        if self.optimizer is None:
            raise InputError("lr_find needs a model with parameters to train; a mean image has none")
        step = self.stepper().mock_training(self.training_batches)
        with self._streams.restored(), self._streams.as_global("model"):
            self.lr_curve = lr_find.ramp(step, start_lr=start_lr, end_lr=end_lr, steps=steps)
        if plot and notebook_display() is not None:
            self.lr_curve.plot()
        return self.lr_curve.suggested

    # -- predicting ------------------------------------------------------------------------------------------

    def get_preds(
        self, data: Data | None = None, *, tta: bool = False
    ) -> tuple[Float[Tensor, "n classes"], Shaped[Tensor, "n ..."] | None]:
        """Probabilities and labels of all rows, in the order of the data.

        Args:
            data: what to predict; None is the validation side.
            tta: average over the image and its shifts by one pixel in four directions.

        Returns:
            float32 probabilities (n, classes), on the CPU, activated once even where the model ends in a
            softmax; labels (n,) as the data has them, None where it has none.
        """
        data = self._data_to_predict(data)
        probabilities, labels = self.predictor.probabilities(data, tta=tta)
        if data is not self.valid:
            self._record.tell(self._inspection.scored(audit.side_of(data)))
        return probabilities, None if isinstance(data, ImageSet) and data.labels is None else labels

    def predict(self, data: Data | None = None, *, tta: bool = False) -> Int64[Tensor, " n"]:
        """The predicted class index of each row, in the order of the data; None is the validation side."""
        return self.predictor.predict(self._data_to_predict(data), tta=tta)

    @property
    def predictor(self) -> Predictor:
        """The model as it is now, with all that its predictions need."""
        return Predictor(self.model, self.head, self.device, self.precision, self.objective.activation)

    def _data_to_predict(self, data: Data | None) -> Data:
        data = self.valid if data is None else data
        if data is None:
            raise InputError("there is no validation side to predict: give the images")
        if isinstance(data, ImageSet) and isinstance(self.train, ImageSet):
            return matching(data, self.train)
        return data

    # -- state -----------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """A copy of all that a training needs to go on to the same bits: weights, optimiser, streams, history."""
        own: dict[str, Any] = {"best": self._best, "taken": self._taken}
        own["optimizer"] = None if self.optimizer is None else self.optimizer.state_dict()
        own["difficulty"] = None if self._difficulties is None else self._difficulties.difficulty
        # The history's rows cannot change: copying them deeply, anew each epoch, would grow to most of the time.
        copied = {"streams": self._streams.state_dict(), "history": self.history.as_dicts()}
        return copy.deepcopy(own) | {"model": copied_weights(self.model)} | copied

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a state that `state_dict` gave."""
        self.model.load_state_dict(state["model"])
        if self.optimizer is not None:
            self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self._streams.load_state_dict(state["streams"])
        if self._difficulties is not None:
            self._difficulties.difficulty.copy_(state["difficulty"])
        self.history = History.from_dicts(state["history"])
        self._best = copy.deepcopy(state["best"])
        self._taken = dict(state.get("taken", {"epochs": 0, "steps": 0}))  # older checkpoints did not count them

    # -- building --------------------------------------------------------------------------------------------

    def _build(self, model: nn.Module | Callable[[], nn.Module]) -> nn.Module:
        if not isinstance(model, nn.Module):
            with self._streams.as_global("init"):
                model = model()
        return place(model, self.device)

    def _outputs_of(self, inputs: Shaped[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """What the model gives for a few rows; changes nothing."""
        with torch.no_grad(), torch.random.fork_rng(), evaluating(self.model):
            return forward(self.model, inputs, self.precision)

    # -- validating and checking -----------------------------------------------------------------------------

    def _judge(self, batches: BatchSource) -> tuple[float, dict[str, float]]:
        """Loss and metrics over a whole side."""
        return self.objective.judge(*collect_outputs(self.model, batches, precision=self.precision, again=True))

    def _check_outcome(self) -> None:
        """Look at what a training came to; it is done, so a finding is told and nothing is refused."""
        if self.optimizer is None or not self._steps or not self.history:
            return
        outputs = self._outputs_of(self._inspection.inputs)
        predicted, history = self.predictor.decode(outputs), self.history.as_dicts()
        self._record.tell(self._inspection.after(outputs, predicted, self._steps, history))

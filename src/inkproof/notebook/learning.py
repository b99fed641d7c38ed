"""The Learner of notebooks: fastai's names and call shapes around the one training loop of inkproof."""

from collections import namedtuple
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from inkproof import learner as core
from inkproof import lr_find
from inkproof.audit import act_on
from inkproof.errors import InputError
from inkproof.files import atomic_path
from inkproof.heads import Loss
from inkproof.history import notebook_display
from inkproof.lr_find import minimum, slide, steep, valley
from inkproof.metrics import Metric
from inkproof.notebook.functions import FlatLoss
from inkproof.notebook.loaders import DataLoader, DataLoaders
from inkproof.objective import name_of
from inkproof.prediction import Predictor

__all__ = ["SGD", "Adam", "Learner", "Recorder", "SuggestedLRs", "minimum", "slide", "steep", "valley"]

SuggestedLRs = lr_find.SuggestedLRs
_DEFAULT_LR = 1e-3


def SGD(params: Any, lr: float, mom: float = 0.0, wd: float = 0.0) -> torch.optim.Optimizer:
    """Stochastic gradient descent, plain unless `mom` or `wd` is given."""
    return torch.optim.SGD(params, lr=lr, momentum=mom, weight_decay=wd, fused=True)


def Adam(
    params: Any, lr: float, mom: float = 0.9, sqr_mom: float = 0.99, eps: float = 1e-5, wd: float = 0.01
) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay and fastai's defaults."""
    return torch.optim.AdamW(params, lr=lr, betas=(mom, sqr_mom), eps=eps, weight_decay=wd, fused=True)


class Recorder:
    """What a training went through.

    Args:
        learner: whose history it reads.
    """

    def __init__(self, learner: core.Learner):
        self._learner = learner

    @property
    def metric_names(self) -> list[str]:
        """The names of a row of the table."""
        rows = self._learner.history.rows
        return ["epoch", "train_loss", "valid_loss", *(rows[0].metrics if rows else []), "time"]

    @property
    def values(self) -> list[list[float | None]]:
        """For each epoch its training loss, validation loss and metrics."""
        return [[row.train_loss, row.valid_loss, *row.metrics.values()] for row in self._learner.history]

    def plot_loss(self) -> Any:
        """Draw training and validation loss by epoch."""
        from matplotlib import pyplot

        rows = self._learner.history.rows
        validated = [(row.epoch, row.valid_loss) for row in rows if row.valid_loss is not None]
        _, axes = pyplot.subplots()
        axes.plot([row.epoch for row in rows], [row.train_loss for row in rows], label="train")
        if validated:
            axes.plot(*zip(*validated, strict=True), label="valid")
        axes.set(xlabel="epoch", ylabel="loss")
        axes.legend()
        return axes


class Learner:
    """Trains a model on DataLoaders. The audit looks at data, loss and metrics, and warns of what it finds.

    Args:
        dls: the DataLoaders to train and validate on.
        model: an nn.Module, trained in place from the weights it has.
        loss_func: takes outputs and targets of a batch, gives a scalar; None takes cross entropy for several outputs
            and binary cross entropy with logits for one.
        opt_func: makes the optimiser: `SGD`, `Adam`, or one of torch's, such as torch.optim.SGD.
        lr: where `fit` and `fit_one_cycle` are given none.
        metrics: one function or several; each sees outputs and targets of the whole validation side.
        wd: weight decay; None leaves that of `opt_func`.
        path: where `save` writes; None is that of the DataLoaders.
        model_dir: folder in it.
        allow: ids of findings that are known and may pass without a warning.

    Attributes:
        dls, model, loss_func, opt, lr, metrics, recorder, findings.
    """

    def __init__(
        self,
        dls: Any,
        model: Any,
        loss_func: Loss | None = None,
        opt_func: Callable[..., torch.optim.Optimizer] = Adam,
        lr: float = _DEFAULT_LR,
        metrics: Metric | Sequence[Metric] | None = None,
        *,
        wd: float | None = None,
        path: Any = None,
        model_dir: str = "models",
        allow: Collection[str] = (),
    ):
        if not isinstance(dls, DataLoaders):
            raise InputError(f"a Learner takes DataLoaders(train, valid), not a {type(dls).__name__}")
        if not isinstance(model, nn.Module):
            raise InputError(f"a Learner takes a model, an nn.Module, not a {type(model).__name__}")
        self.dls = dls
        self.lr = lr
        self._folder = Path(dls.path if path is None else path) / model_dir
        self._allow = frozenset(allow)
        self._told = {str(finding) for finding in dls.findings}
        self._told_count = 0
        # Any: the Learner itself refuses a device that it does not know.
        device: Any = "auto" if dls.device is None else torch.device(dls.device).type
        self._core = core.Learner(
            model,
            dls.train.to_train(),
            dls.valid.to_predict() if len(dls) > 1 else None,
            loss=loss_func,
            optimizer=opt_func if wd is None else lambda params, lr: opt_func(params, lr=lr, wd=wd),
            metrics=[] if metrics is None else [metrics] if callable(metrics) else list(metrics),
            batch_size=dls.train.bs,
            seed=int(torch.randint(2**31, ())),  # so that torch.manual_seed decides order and dropout, as in fastai
            shuffle=dls.train.shuffle,
            device=device,
            on_finding="record",
            allow=allow,
        )
        self.recorder = Recorder(self._core)
        self._tell()

    @property
    def model(self) -> nn.Module:
        """The model that is trained."""
        return self._core.model

    @property
    def loss_func(self) -> Loss:
        """The loss that is trained with."""
        return self._core.loss

    @property
    def opt(self) -> torch.optim.Optimizer | None:
        """The optimiser; None where the model has nothing to train."""
        return self._core.optimizer

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The functions of the table's last columns."""
        return self._core.metrics

    @property
    def findings(self) -> list[Any]:
        """What the audit saw, of the data and of the training."""
        known = {str(finding) for finding in self.dls.findings}
        return [*self.dls.findings, *(finding for finding in self._core.findings if str(finding) not in known)]

    # -- training --------------------------------------------------------------------------------------------

    def fit(self, n_epoch: int, lr: float | None = None) -> None:
        """Train with a constant learning rate, on from where the model stands, and show the table.

        Args:
            n_epoch: how many epochs.
            lr: learning rate; None takes the Learner's.
        """
        self._core.fit(n_epoch, self.lr if lr is None else lr)
        self._tell()

    def fit_one_cycle(self, n_epoch: int, lr_max: float | None = None) -> None:
        """Train with one cycle of the learning rate, up to `lr_max` and down, and show the table.

        Args:
            n_epoch: how many epochs.
            lr_max: the peak; None takes the Learner's rate.
        """
        self._core.fit_one_cycle(n_epoch, self.lr if lr_max is None else lr_max)
        self._tell()

    def lr_find(
        self,
        start_lr: float = 1e-7,
        end_lr: float = 10.0,
        num_it: int = 100,
        show_plot: bool = True,
        suggest_funcs: Callable[..., float] | Sequence[Callable[..., float]] = valley,
    ) -> Any:
        """Suggest learning rates from a mock training, which changes nothing of the Learner.

        Args:
            start_lr: the first rate of the ramp.
            end_lr: the rate that it rises towards.
            num_it: its steps.
            show_plot: draw loss against rate.
            suggest_funcs: of `valley`, `steep`, `minimum` and `slide`, one or several.

        Returns:
            A named tuple `SuggestedLRs` with one rate a function; outside of a notebook it is printed too.
        """
        names = [name_of(function) for function in ([suggest_funcs] if callable(suggest_funcs) else suggest_funcs)]
        if unknown := [name for name in names if name not in lr_find.SuggestedLRs._fields]:
            raise InputError(f"lr_find suggests valley, steep, minimum and slide, not {', '.join(unknown)}")
        found = self._core.lr_find(start_lr=start_lr, end_lr=end_lr, steps=num_it, plot=False)
        suggested = namedtuple("SuggestedLRs", names)(*(getattr(found, name) for name in names))
        if show_plot and self._core.lr_curve is not None:
            self._core.lr_curve.plot()
        if notebook_display() is None:  # a notebook shows what is returned
            print(suggested)
        return suggested

    # -- predicting ------------------------------------------------------------------------------------------

    def get_preds(
        self,
        ds_idx: int = 1,
        dl: DataLoader | None = None,
        *,
        with_decoded: bool = False,
        act: Callable[[Tensor], Tensor] | None = None,
    ) -> tuple[Any, ...]:
        """Predictions and targets of all rows, in the order of the data; test rows that were trained on are warned of.

        Args:
            ds_idx: which loader of the DataLoaders: 0 training, 1 validation.
            dl: what to predict instead, such as `dls.test_dl(...)`.
            with_decoded: also give the decision of each row.
            act: what to do with raw outputs. None takes softmax with cross entropy (never twice: a model that ends in
                one is let be), sigmoid with BCEWithLogitsLossFlat, and else leaves them raw.

        Returns:
            Predictions, shaped as the model gives them, on the CPU; targets, None where there are none; decisions.
        """
        loader = self.dls[ds_idx] if dl is None else DataLoader.around(dl)
        self.dls.check_test(loader)
        predictor = self._core.predictor
        outputs, targets = (part.cpu() for part in predictor.outputs(loader.to_predict()))
        activated = (act or self._activation(predictor))(outputs)
        answer = (activated, targets if loader.labelled else None)
        if not with_decoded:
            return answer
        loss = self.loss_func
        decoded = loss.decodes(activated) if isinstance(loss, FlatLoss) else predictor.decode(outputs)
        return (*answer, decoded)

    def validate(self, ds_idx: int = 1, dl: DataLoader | None = None) -> list[float]:
        """Loss and metrics over a loader, by default the validation one."""
        loader = self.dls[ds_idx] if dl is None else DataLoader.around(dl)
        outputs, targets = self._core.predictor.outputs(loader.to_predict())
        return [float(function(outputs, targets)) for function in (self.loss_func, *self.metrics)]

    def _activation(self, predictor: Predictor) -> Callable[[Tensor], Tensor]:
        loss = self.loss_func
        if predictor.activation != "none":
            return lambda outputs: outputs
        if isinstance(loss, FlatLoss):
            return loss.activation
        if isinstance(loss, nn.CrossEntropyLoss) or loss is nn.functional.cross_entropy:
            return lambda outputs: outputs.softmax(dim=1)
        return lambda outputs: outputs

    # -- keeping ---------------------------------------------------------------------------------------------

    def save(self, file: str) -> Path:
        """Write the weights as safetensors, `models/<file>.safetensors`, and return where."""
        path = self._file(file)
        with atomic_path(path) as temporary:
            save_file({name: part.contiguous() for name, part in self.model.state_dict().items()}, temporary)
        return path

    def load(self, file: str) -> "Learner":
        """Take the weights that `save` wrote."""
        path = self._file(file)
        if not path.exists():
            raise InputError(f"{path}: no such weights: save them first with learn.save({file!r})")
        self.model.load_state_dict(load_file(path, device=str(self._core.device)))
        return self

    def _file(self, name: str) -> Path:
        if Path(name).name != name:
            raise InputError(f"{name}: give a plain name; weights are kept in {self._folder}")
        return self._folder / f"{name}.safetensors"

    def _tell(self) -> None:
        """Warn of what the core's Learner recorded since the last time, each thing once."""
        new = self._core.findings[self._told_count :]
        self._told_count = len(self._core.findings)
        act_on([one for one in new if str(one) not in self._told], on_finding="warn", allow=self._allow)
        self._told |= {str(one) for one in new}

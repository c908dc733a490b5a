"""Models that are solved in one go, and the linear ones among them."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, NoReturn, Self

import torch
from torch import Tensor, nn

from pyg_hash.models.common import Widths, check_labelled, like_of
from pyg_hash.models.encoder import EncoderHashModel
from pyg_hash.typing import IMAGE, MODALITIES, HashOutput, Modality
from pyg_hash.utils.checks import check_features
from pyg_hash.utils.oddities import say_odd_data
from pyg_hash.utils.provenance import data_rows

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

Views = tuple[Tensor, Tensor]  # something of images and of texts


class ClosedFormModel(EncoderHashModel):
    """A model whose parameters, float64, are solved for, not descended to.

    :meth:`solve` takes the place of :func:`~pyg_hash.training.fit`.
    """

    is_solved: Tensor

    def __init__(self, num_features: Widths, num_bits: int) -> None:
        super().__init__(num_bits, num_features=num_features)
        self.register_buffer("is_solved", torch.tensor(False))

    @torch.no_grad()
    def solve(self, data: HeteroData) -> Self:
        """Fit the model to the training rows of ``data``, attach it, in evaluation mode then.

        ``TypeError``: features that are not floating-point, or labels of a wrong kind.
        ``ValueError``: features of another width, NaN or inf in training rows, no training row, no
        labels, labelled rows that do not train, or more bits than the method can have.
        ``OddDataWarning``: as of :func:`~pyg_hash.training.fit`.
        """
        self._check_items(data)
        check_labelled(self, data)
        say_odd_data(data)
        self._solve(data)
        self.is_solved.fill_(True)
        self.attach(data)
        if self.intake is not None:
            self.intake.trained = data_rows(data)
        return self.eval()

    @abstractmethod
    def _solve(self, data: HeteroData) -> None:
        """Fill the parameters."""

    @abstractmethod
    def relaxed_solved(self, x: Tensor, modality: Modality) -> Tensor:
        """Relaxed codes ``[n, num_bits]`` of float64 features, once there are parameters."""

    def relaxed(self, x: Tensor, modality: Modality) -> Tensor:
        """Relaxed codes ``[n, num_bits]``; ``RuntimeError`` if the model is not solved."""
        if not bool(self.is_solved):
            raise RuntimeError(f"{type(self).__name__} has no parameters; call solve(data) first")
        return self.relaxed_solved(x.to(like_of(self)), modality)

    def loss(self, out: HashOutput, data: HeteroData) -> NoReturn:
        """Raises ``TypeError``: there is nothing to descend."""
        raise TypeError(
            f"{type(self).__name__} has a closed form: call model.solve(data) in place of fit(...)"
        )

    def reset_parameters(self) -> None:
        """Forget the data."""
        self.intake = None
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
            self.is_solved.fill_(False)


class LinearHashModel(ClosedFormModel):
    r"""A closed form that ends in one linear map a modality.

    The code of an item is :math:`\mathrm{sign}(x W - o)`, its relaxed code the tanh of that, with
    ``weight`` :math:`W` ``[d, num_bits]`` and ``offset`` :math:`o` ``[num_bits]``.
    """

    def __init__(self, num_features: Widths, num_bits: int) -> None:
        super().__init__(num_features, num_bits)
        widths = self.num_features
        self.weight = nn.ParameterDict({m: solved(widths[m], num_bits) for m in MODALITIES})
        self.offset = nn.ParameterDict({m: solved(num_bits) for m in MODALITIES})

    def relaxed_solved(self, x: Tensor, modality: Modality) -> Tensor:
        """Relaxed codes ``[n, num_bits]`` of float64 features."""
        return torch.tanh(x @ self.weight[modality] - self.offset[modality])

    def _keep(self, weights: Views, means: Views) -> None:
        """Take over the maps that were solved for, of features less their means."""
        for m, weight, mean in zip(MODALITIES, weights, means, strict=True):
            self.weight[m].copy_(weight)
            self.offset[m].copy_(torch.mv(weight.T, mean))


def solved(*shape: int) -> nn.Parameter:
    """A float64 parameter that no optimiser changes."""
    return nn.Parameter(torch.zeros(*shape, dtype=torch.float64), requires_grad=False)


def selected_features(data: HeteroData, mask: str = "train_mask") -> Views:
    """Image and text features of the rows under a mask, float64, finite, not all the same."""
    rows = data[IMAGE][mask].nonzero().flatten()
    if not len(rows):
        raise ValueError(f"{mask}: selects no node, and there is nothing to learn from")
    for m in MODALITIES:
        x = data[m].x[rows]
        check_features(x, f"data[{m!r}].x under {mask}")
        if len(x) > 1 and bool((x == x[0]).all()):
            raise ValueError(
                f"data[{m!r}].x under {mask}: all {len(x)} rows are the same, and there is nothing "
                "to learn from; give features that differ"
            )
    image, text = (data[m].x[rows].double() for m in MODALITIES)
    return image, text


def centred(views: Views) -> tuple[Views, Views]:
    """Two views less their means, and the means."""
    means = (views[0].mean(dim=0), views[1].mean(dim=0))
    return (views[0] - means[0], views[1] - means[1]), means

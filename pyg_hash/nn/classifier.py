"""The label classifier."""

from __future__ import annotations

from torch import Tensor, nn

from pyg_hash.utils.checks import check_positive_int


class LabelClassifier(nn.Module):
    """One linear layer from codes to labels.

    The mapping :math:`P` of Eq. (6) of Wu et al. (MCGCN), Pattern Recognition 136, 2023, before its
    softmax, which :func:`~pyg_hash.losses.label_prediction_loss` applies.

    Args:
        num_channels: width of the input.
        num_classes: number of classes.
    """

    def __init__(self, num_channels: int, num_classes: int) -> None:
        super().__init__()
        check_positive_int(num_channels, "num_channels")
        check_positive_int(num_classes, "num_classes")
        self.num_channels = num_channels
        self.num_classes = num_classes
        self.lin = nn.Linear(num_channels, num_classes)

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        self.lin.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Logits, float ``[N, num_classes]``, of ``x``, float ``[N, num_channels]``."""
        out: Tensor = self.lin(x)
        return out

    def extra_repr(self) -> str:
        """The arguments, for ``repr``."""
        return f"num_channels={self.num_channels}, num_classes={self.num_classes}"

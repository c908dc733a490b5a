"""DCMH: one code for both modalities of an item, which two encoders approach."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor, nn

from pyg_hash.codes import binarize
from pyg_hash.losses import pairwise_nll
from pyg_hash.models.base import Objective
from pyg_hash.models.batches import WHOLE, BatchDraw, Share, labelled_rows
from pyg_hash.models.common import Widths, weighted
from pyg_hash.models.two_encoders import TwoEncoders
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, HashOutput, other
from pyg_hash.utils.checks import check_each, check_positive_int, check_weight
from pyg_hash.utils.modes import exact

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData


class DCMH(TwoEncoders):
    r"""Deep cross-modal hashing.

    Jiang & Li, "Deep Cross-Modal Hashing", CVPR 2017. With the outputs :math:`F, G` of the image
    and the text encoder for all labelled items, DCMH Eq. 1 is, rows being samples here,

    .. math::
        \sum_{ij} \left( \log(1 + e^{\Theta_{ij}}) - S_{ij} \Theta_{ij} \right)
        + \gamma \left( \lVert B - F \rVert^2 + \lVert B - G \rVert^2 \right)
        + \eta \left( \lVert 1^\top F \rVert^2 + \lVert 1^\top G \rVert^2 \right), \quad
        \Theta = \tfrac{1}{2} F G^\top

    with :math:`S_{ij} = 1` if the two share a label, else 0, and one code for both modalities of an
    item, :math:`B = \mathrm{sign}(F + G)`. As in Algorithm 1, an epoch changes the images'
    encoder (``'image'``) on mini-batches against the :math:`G` of all items, then the texts'
    (``'text'``), then :math:`B`. Losses are divided by the pairs they are about, as in the authors'
    program. The paper's last layer is linear; here its output goes through tanh, so that relaxed
    codes are within (-1, 1) as those of every model.

    Args:
        num_features, num_classes, num_bits, hidden_channels, dropout, batch_size: see
            :class:`HashModel` (paper: batches of 128, a hidden layer of 8192 for texts).
        gamma: weight of the distance to the codes (paper: 1).
        eta: weight of the balance of bits (paper: 1).
    """

    def __init__(
        self,
        num_features: Widths,
        num_classes: int,
        num_bits: int = 32,
        *,
        hidden_channels: int = 1024,
        gamma: float = 1.0,
        eta: float = 0.01,
        dropout: float = 0.2,
        batch_size: int = 64,
    ) -> None:
        super().__init__(num_features, num_bits, hidden_channels, dropout, batch_size)
        check_positive_int(num_classes, "num_classes")
        check_each(check_weight, gamma=gamma, eta=eta)
        self.num_classes = num_classes
        self.weights = {"quantization": gamma, "balance": eta}

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """``'image'`` and ``'text'``."""
        return {m: list(self.encoders[m].parameters()) for m in MODALITIES}

    def loss(self, out: HashOutput, data: HeteroData) -> dict[str, Tensor]:
        """DCMH Eq. 1 over all labelled nodes, divided by their number squared.

        Terms, unweighted: ``likelihood``, ``quantization``, ``balance``; and their weighted sum.
        """
        rows, labels = labelled_rows(data, self.num_classes, self.beta)
        image, text = out[IMAGE][rows], out[TEXT][rows]
        code = binarize((image + text).detach()).to(image)
        with exact(image):
            pairs = len(rows) ** 2
            balance = image.sum(dim=0).square().sum() + text.sum(dim=0).square().sum()
            terms = {
                "likelihood": pairwise_nll(image, text, labels, labels),
                "quantization": ((code - image).square() + (code - text).square()).sum() / pairs,
                "balance": balance / pairs,
            }
            return weighted(terms, self.weights)

    def objectives(self, data: HeteroData, epoch: int, share: Share = WHOLE) -> Iterator[Objective]:
        """One round of Algorithm 1, in mini-batches; ``share`` of them."""
        self._check_items(data)
        rows, labels = labelled_rows(data, self.num_classes, self.beta)
        known = {m: self.fixed(data[m].x[rows], m) for m in MODALITIES}
        code = binarize(known[IMAGE] + known[TEXT]).to(self.beta)
        batches = BatchDraw(rows, self.batch_size, share)
        for m in MODALITIES:
            against = self.fixed(data[other(m)].x[rows], other(m))
            for b in batches.own():
                live = self.relaxed(data[m].x[rows[b]], m)
                with exact(live):
                    pairs = len(b) * len(rows)
                    rest = known[m].sum(dim=0) - known[m][b].sum(dim=0)
                    terms = {
                        "likelihood": pairwise_nll(live, against, labels[b], labels),
                        "quantization": (code[b] - live).square().sum() / pairs,
                        "balance": (rest + live.sum(dim=0)).square().sum() / pairs,
                    }
                    terms = weighted(terms, self.weights)
                known[m][b] = live.detach()
                yield Objective(terms, m)

"""SGEH: unsupervised cross-modal hashing on a unified affinity graph.

Zhao, Yu, Liao, Zhang, Zhang: "From Sparse to Dense: Semantic Graph Evolutionary Hashing for
Unsupervised Cross-Modal Retrieval", ACCV 2022.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch_geometric.data import HeteroData

from pyg_hash.graph import GraphCache
from pyg_hash.losses import (
    affinity_loss,
    cosine_matrix,
    hybrid_affinity,
    prior_discriminator_loss,
    prior_generator_loss,
)
from pyg_hash.models.base import EncoderHashModel, Objective
from pyg_hash.models.common import check_widths, image_text_pair
from pyg_hash.models.sgeh_training import BATCHES, TrainingSet, training_set, watched
from pyg_hash.models.share import WHOLE, Share
from pyg_hash.nn import HashMLP, PriorDiscriminator
from pyg_hash.nn.local_affinity import ADJACENCIES
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, HashOutput, Modality
from pyg_hash.utils.checks import (
    check_choice,
    check_fraction,
    check_positive_int,
    check_weight,
)
from pyg_hash.utils.precision import exact

VARIANTS = ("SGEH", "SGEH-1", "SGEH-2", "SGEH-3", "SGEH-4")


class SGEH(EncoderHashModel):
    r"""Semantic graph evolutionary hashing, second stage (Eq. 8-15, 24).

    The first stage is a transform, :class:`~pyg_hash.transforms.UnifiedAffinity`: a sparse graph
    Z of the training pairs. Among the nodes of a mini-batch the sparse affinity A (see
    :class:`~pyg_hash.nn.LocalAffinity`) and the cosines of the features make a dense one,
    :math:`U` (Eq. 9, 10), which the cosines of the codes are to repeat. Training descends

    .. math::
        L^B + \eta_4 L_d, \qquad B = \tanh(\beta Y), \quad \beta = \sqrt{e + 1}

    in epoch :math:`e` (from 0), with :math:`L^B` of Eq. 12 and 13 and the regulariser
    :math:`L_d` of Eq. 15, whose discriminator takes a step of its own before each step of the
    codes. No label is ever read. Items are encoded one by one, so every code is inductive.

    The parts for :func:`~pyg_hash.training.fit` are ``'codes'`` and ``'discriminator'``, or
    ``'model'`` in the variants without one. One loss reaches both encoders, so they share an
    optimiser; learning rates of their own (the authors': 1e-3 and 1e-2) are parameter groups of
    ``model.encoders['image']`` and ``model.encoders['text']``.

    The defaults were chosen on validation splits and differ from the paper's where it says so
    below. Features that are centred, as :class:`~pyg_hash.transforms.ScaleFeatures` makes them,
    have cosines around 0, and the second term of Eq. 10 is next to nothing; with the paper's
    :math:`\alpha \lambda_3 = 0.6` even the two codes of one pair would be told to differ.

    Args:
        num_features: features of images and texts, ``{'image': d_i, 'text': d_t}`` or a pair.
        num_bits: code length :math:`b`.
        hidden_channels: width of the encoders' hidden layer (code: 4096); one number or a pair
            (image, text).
        discriminator_channels: width of the discriminator's hidden layer.
        variant: ``'SGEH'``, or a row of Table 2, all of these without discriminator: ``'SGEH-1'``
            with :math:`U = A`, ``'SGEH-2'`` with
            :math:`U = \lambda_4 S^I + (1 - \lambda_4) S^T` (a loss as DJSRH's), ``'SGEH-3'`` with
            Eq. 9, ``'SGEH-4'`` with Eq. 10, as ``'SGEH'``.
        adjacency: what A is: ``'diffused'`` (ours), ``'induced'``, ``'paper'`` or ``'code'``, see
            :class:`~pyg_hash.nn.LocalAffinity`.
        walk_steps: steps of the random walk of ``'diffused'``.
        batches: what a mini-batch is drawn of: ``'nodes'``, or ``'edges'`` of Z with their end
            points (paper), where a node comes as often as it has edges, always beside a
            neighbour. ``adjacency='code'`` needs the latter.
        batch_size: nodes or edges a mini-batch (paper: 8 edges).
        alpha: factor of U in Eq. 12 (paper: 1.5).
        lambda3: share of A in U (paper: 0.4).
        lambda4: share of the images in U (paper: 0.3 on Wikipedia, 0.6, 0.9 on MIRFlickr).
        lambda_ii: weight of the image term of Eq. 13 (paper: 1; code: 0.1, Wikipedia 0.3).
        lambda_it: weight of the cross-modal term (paper: 0.1, Wikipedia 0.3; code: 1).
        lambda_tt: weight of the text term (both: 0.1, Wikipedia 0.3).
        eta4: weight of the regulariser (paper: 0.001).
        dropout: share of the hidden layer that is dropped in training (code: 0.5).
    """

    makes_batches = True
    beta: Tensor

    def __init__(
        self,
        num_features: Mapping[str, int] | tuple[int, int] | list[int],
        num_bits: int = 32,
        *,
        hidden_channels: int | tuple[int, int] | list[int] = 256,
        discriminator_channels: int = 64,
        variant: str = "SGEH",
        adjacency: str = "diffused",
        walk_steps: int = 1,
        batches: str = "nodes",
        batch_size: int = 32,
        alpha: float = 5.5,
        lambda3: float = 0.9,
        lambda4: float = 0.1,
        lambda_ii: float = 1.8,
        lambda_it: float = 1.0,
        lambda_tt: float = 1.8,
        eta4: float = 0.005,
        dropout: float = 0.5,
    ) -> None:
        config = dict(locals())  # a copy: a debugger may change the original on the way
        del config["self"], config["__class__"]
        widths = image_text_pair(num_features, "num_features")
        hidden = image_text_pair(hidden_channels, "hidden_channels")
        for name in ("num_bits", "discriminator_channels", "walk_steps", "batch_size"):
            check_positive_int(config[name], name)
        for name in ("alpha", "lambda_ii", "lambda_it", "lambda_tt", "eta4"):
            check_weight(config[name], name)
        for name in ("lambda3", "lambda4", "dropout"):
            check_fraction(config[name], name)
        check_choice(variant, VARIANTS, "variant")
        check_choice(adjacency, ADJACENCIES, "adjacency")
        check_choice(batches, BATCHES, "batches")
        if batches == "nodes" and batch_size == 1:
            raise ValueError("batch_size: a batch of one node has no pairs; use at least 2")
        if batches == "nodes" and adjacency == "code":
            raise ValueError("batches: adjacency='code' is made of drawn edges; use 'edges'")
        config |= {"num_features": widths, "hidden_channels": [hidden[IMAGE], hidden[TEXT]]}
        super().__init__(num_bits, config)
        self.num_features = widths
        self.variant = variant
        self.adjacency, self.walk_steps = adjacency, walk_steps
        self.batches, self.batch_size = batches, batch_size
        self.alpha, self.lambda4, self.eta4 = alpha, lambda4, eta4
        self.evolution = "G1" if variant in ("SGEH-1", "SGEH-2", "SGEH-3") else "G2"
        self.lambda3 = {"SGEH-1": 1.0, "SGEH-2": 0.0}.get(variant, lambda3)
        self.weights = {"affinity_ii": lambda_ii, "affinity_it": lambda_it}
        self.weights |= {"affinity_tt": lambda_tt, "prior": eta4}
        self.encoders = nn.ModuleDict(
            {m: HashMLP(widths[m], hidden[m], num_bits, dropout) for m in MODALITIES}
        )
        if variant == "SGEH":
            self.discriminator = PriorDiscriminator(num_bits, discriminator_channels)
        self.register_buffer("beta", torch.ones(()))
        self._training_set = GraphCache(
            partial(
                training_set,
                adjacency="induced" if variant == "SGEH-2" else adjacency,  # it needs no A
                walk_steps=walk_steps,
                image_share=lambda4,
            ),
            watched,
        )

    def reset_parameters(self) -> None:
        """Draw new parameters, forget the data, and start the annealing over."""
        super().reset_parameters()
        self._anneal(0)

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """``'codes'`` and ``'discriminator'``; ``'model'`` without a discriminator."""
        if self.variant != "SGEH":
            return super().parts()
        return {
            "codes": list(self.encoders.parameters()),
            "discriminator": list(self.discriminator.parameters()),
        }

    def relaxed(self, x: Tensor, modality: Modality) -> Tensor:
        r"""Relaxed codes :math:`\tanh(\beta Y)` of Eq. 24, float ``[n, num_bits]``."""
        return torch.tanh(self.beta * self.encoders[modality](x).to(self.beta))

    def forward(self, data: HeteroData) -> HashOutput:
        """Relaxed codes of all nodes; no graph is needed.

        Raises:
            ValueError: features of another width.
        """
        check_widths(data, self.num_features)
        return super().forward(data)

    def objectives(self, data: HeteroData, epoch: int, share: Share = WHOLE) -> Iterator[Objective]:
        """One step of the codes for each mini-batch; every node, or edge, once an epoch.

        With a discriminator each is preceded by the discriminator's own step on the same codes.
        Other ranks may have a share of the mini-batches.

        Raises:
            TypeError, ValueError: see :meth:`loss`.
        """
        check_widths(data, self.num_features)
        train = self._training_set(data)
        self._anneal(epoch)
        for nodes, pairs in train.batches(self.batches, self.batch_size, share):
            rows = train.rows[nodes]
            codes = {m: self.relaxed(data[m].x[rows], m) for m in MODALITIES}
            part = "model"
            if self.variant == "SGEH":
                yield Objective({"loss": self.discriminator_loss(codes)}, "discriminator")
                part = "codes"  # still those of before: that step changed the discriminator alone
            yield Objective(self._terms(codes, data, train, nodes, pairs), part)

    def loss(self, out: HashOutput, data: HeteroData) -> dict[str, Tensor]:
        """The codes' objective as an epoch descends it: the mean over its mini-batches.

        Eq. 10 and 12 are defined on a mini-batch, so there is no other total. The mini-batches are
        those of the stored order, so the result is always the same. Terms,
        unweighted: ``affinity_ii``, ``affinity_it``, ``affinity_tt`` (Eq. 13), ``prior`` (Eq. 15,
        the codes' side; the discriminator is a constant), and their weighted sum ``'loss'``. Only
        training rows take part.

        Raises:
            TypeError: training features that are not floating-point.
            ValueError: no affinity graph, no training rows, a graph of other rows, or NaN or inf
                in training rows.
        """
        train = self._training_set(data)
        batches = []
        for nodes, pairs in train.batches(self.batches, self.batch_size, None):
            codes = {m: out[m][train.rows[nodes]] for m in MODALITIES}
            # made again in the backward pass: thousands of blocks would not fit into memory
            terms = checkpoint(
                self._terms,
                codes,
                data,
                train,
                nodes,
                pairs,
                use_reentrant=False,
                preserve_rng_state=False,
            )
            batches.append(terms)
        return {name: torch.stack([terms[name] for terms in batches]).mean() for name in batches[0]}

    def discriminator_loss(self, codes: Mapping[Modality, Tensor]) -> Tensor:
        """Eq. 15 as the discriminator descends it; the codes are constants.

        Args:
            codes: relaxed codes of both modalities, float ``[n, num_bits]`` each.
        """
        known = torch.cat([codes[m] for m in MODALITIES]).detach()
        random = torch.randint_like(known, 2) * 2.0 - 1.0
        return prior_discriminator_loss(self.discriminator(known), self.discriminator(random))

    def _terms(
        self,
        codes: Mapping[Modality, Tensor],
        data: HeteroData,
        train: TrainingSet,
        nodes: Tensor,
        pairs: Tensor,
    ) -> dict[str, Tensor]:
        """The terms of one mini-batch, unweighted, and their weighted sum.

        The affinities' part is SGEH Eq. 13, whose third term is printed with the image codes twice;
        it is taken between the modalities, as its name and the authors' code say.
        """
        image, text = codes[IMAGE], codes[TEXT]
        with exact(image):
            target = self._target(data, train, nodes, pairs)
            terms = {
                "affinity_ii": affinity_loss(image, image, target, alpha=self.alpha),
                "affinity_it": affinity_loss(image, text, target, alpha=self.alpha),
                "affinity_tt": affinity_loss(text, text, target, alpha=self.alpha),
            }
        if self.variant == "SGEH":
            terms["prior"] = prior_generator_loss(self.discriminator(torch.cat([image, text])))
        total = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        return terms | {"loss": total}

    @torch.no_grad()
    def _target(self, data: HeteroData, train: TrainingSet, nodes: Tensor, pairs: Tensor) -> Tensor:
        """U of one mini-batch (Eq. 9, 10), float ``[n, n]``."""
        rows = train.rows[nodes]
        image, text = (cosine_matrix(data[m].x[rows]) for m in MODALITIES)
        local = image if self.variant == "SGEH-2" else train.affinity(nodes, pairs)
        return hybrid_affinity(
            local,  # SGEH-2 has no share of it
            image,
            text,
            evolution=self.evolution,
            lambda3=self.lambda3,
            lambda4=self.lambda4,
        )

    def _anneal(self, epoch: int) -> None:
        """Eq. 24: a new tensor, as codes of before may still need the old one to differentiate."""
        self.beta = torch.full_like(self.beta, math.sqrt(epoch + 1))

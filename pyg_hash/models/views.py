"""What the losses of several models share: sums over modalities, nodes of a mask, views."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from pyg_hash.typing import IMAGE, TEXT, Modality


def both(term: Callable[[Modality], Tensor]) -> Tensor:
    """The sum of a term over the two modalities."""
    return term(IMAGE) + term(TEXT)


def selected(x: Tensor, mask: Tensor) -> Tensor:
    """The rows of ``x`` under a mask, and ``x`` itself, not a copy, if that is all of them."""
    return x if bool(mask.all()) else x[mask]


def view_similarity(
    loss: Callable[[Tensor, Tensor], Tensor],
    view: Mapping[Modality, Tensor],
    known: Mapping[Modality, Tensor],
) -> Tensor:
    """The similarity loss between nodes as new items and the same nodes in the graph.

    That is what a search compares: a query, which sees no label, with the database.

    Args:
        loss: of image and text codes.
        view: relaxed codes of the labelled nodes as new items, ``[n, num_bits]``.
        known: relaxed codes of the labelled nodes in the graph, ``[n, num_bits]``.

    Returns:
        The mean over image queries and text queries.
    """
    return 0.5 * loss(view[IMAGE], known[TEXT]) + 0.5 * loss(known[IMAGE], view[TEXT])

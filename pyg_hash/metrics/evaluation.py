"""Cross-modal evaluation of a model on a graph."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import Batch

from pyg_hash.codes import bucket_sizes
from pyg_hash.graph import protocol
from pyg_hash.metrics.counts import Ranking, normalised_gain, tied_at
from pyg_hash.metrics.mean_ap import Denominator, Ties, average_precision, check_definition
from pyg_hash.metrics.scored import expected_recall, pair_places
from pyg_hash.models.graph import GraphHashModel
from pyg_hash.transforms.graphs import check_graph
from pyg_hash.transforms.masks import as_mask, is_mask
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, Modality, binarize, other
from pyg_hash.utils import oddities
from pyg_hash.utils.checks import check_choice, check_labels
from pyg_hash.utils.digests import same_rows
from pyg_hash.utils.modes import eval_mode
from pyg_hash.utils.provenance import data_rows, trained_queries

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

Split = Literal["query", "val"]
Scores = dict[str, float]
RECALL_AT = (1, 5, 10)
EDGE = 10  # the answers whose edge is looked at
_OTHER_BITS = 0.03  # share, more than rounding changes


@dataclass(frozen=True)
class Evaluation:
    """mAP in four directions (``i2t``: queries are images, database texts), and what it means.

    mAP and NDCG tell whether codes carry the category, pair recall whether they carry the thing.
    """

    i2t: float | None  #: mAP; None for data without labels, as the next three
    t2i: float | None
    i2i: float | None
    t2t: float | None
    protocol: str  #: ``'transductive'``, ``'strict'``, ``'inductive'`` or ``'none'`` (no graph)
    definition: str  #: the metric, e.g. ``'mAP@all, expected ties, denominator=hits'``
    num_queries: int  #: of one modality, as ``num_database``
    num_database: int
    num_bits: int
    split: str = "query"  #: or ``'val'``
    relevance: str = "y"  #: the labels of which relevant items share one
    num_labels: int | None = None  #: items whose labels the model read; None: not known
    #: share of the training items (those held out are none) that this is
    label_rate: float | None = None
    unanswered: int = 0  #: queries (the larger number of both ways) without any relevant item
    #: ``{'i2t': {1: .., 5: .., 10: ..}, 't2i': ..}``: how often a query's own other side is among
    #: the first k of those of all queries, expected over ties; empty if the queries of the two
    #: modalities are not the same rows
    pair_recall: dict[str, dict[int, float]] = field(default_factory=dict, hash=False)
    #: ``{'i2t': .., 't2i': ..}``: graded NDCG, expected ties, cut as mAP is; empty without labels
    ndcg: Scores = field(default_factory=dict, hash=False)
    #: by modality, of the database: ``distinct_codes``, ``largest_bucket`` (items of the commonest
    #: code), and ``edge_ties``: how many items are as far as the tenth answer to a query of the
    #: other modality (1: none but itself), mean over the queries
    codes: dict[str, Scores] = field(default_factory=dict, hash=False)
    #: what to know before these numbers are compared, such as ``'training rows among the queries'``
    notes: list[str] = field(default_factory=list, hash=False)

    def __post_init__(self) -> None:
        # JSON has no integers for keys
        tables = {way: {int(k): v for k, v in at.items()} for way, at in self.pair_recall.items()}
        object.__setattr__(self, "pair_recall", tables)

    @property
    def cross_modal(self) -> float:
        """Mean of ``i2t`` and ``t2i``, by which settings are chosen; ``ValueError``: no labels."""
        if self.i2t is None or self.t2i is None:
            raise ValueError("y: the data have no labels, so there is no mAP to choose by")
        return 0.5 * (self.i2t + self.t2i)

    @property
    def labels_read(self) -> str:
        """How many labels the model read, and the label rate, for people; empty: not known."""
        if self.num_labels is None or self.label_rate is None:
            return ""
        rate = f", label rate {self.label_rate:.3g}" if self.num_labels else ""
        return f"{self.num_labels} labels read{rate}"

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values (so keys are strings); ``Evaluation(**values)`` undoes it."""
        recall = {way: {str(k): v for k, v in at.items()} for way, at in self.pair_recall.items()}
        return {**asdict(self), "pair_recall": recall}

    def __str__(self) -> str:
        """The table with its definition; numbers without it cannot be compared."""
        maps = (self.i2t, self.t2i, self.i2i, self.t2t)
        lines = [
            *(f"NOTE: {note}" for note in self.notes),
            f"{self.definition}, {self.num_bits} bits",
            f"protocol {self.protocol}, split {self.split}, "
            f"{self.num_queries} queries, {self.num_database} database items",
        ]
        lines += [self.labels_read] if self.labels_read else []
        if self.unanswered:
            lines.append(f"{self.unanswered} queries share no label with any database item")
        numbers = "  ".join("     -" if v is None else f"{v:6.4f}" for v in maps)
        lines += ["   i2t     t2i     i2i     t2t", numbers]
        if self.ndcg:
            lines.append(f"NDCG {_listed(self.ndcg)}")
        for way, at in self.pair_recall.items():
            # among as many items as answers every pair is found
            told = {f"R@{k}": v for k, v in at.items() if k < self.num_queries}
            lines.append(f"pair recall {way} {_listed(told) if told else '-: too few pairs'}")
        for modality, found in self.codes.items():
            lines.append(
                f"{modality} codes: {found['distinct_codes']:,} different, at most "
                f"{found['largest_bucket']:,} items with one, "
                f"{found['edge_ties']:.1f} as far as the tenth answer"
            )
        return "\n".join(lines)


def _listed(scores: Scores) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in scores.items())


def evaluate(
    model: Any,
    data: HeteroData,
    *,
    split: Split = "query",
    topk: int | None = None,
    ties: Ties = "expected",
    denominator: Denominator = "hits",
    relevance: str = "y",
    warn: bool = True,
) -> Evaluation:
    """Encode all nodes, and measure whether codes carry the category, and whether the thing.

    Queries are the nodes of ``query_mask`` (or ``val_mask``), the database those of
    ``database_mask``; for ``split='val'`` without the validation nodes themselves. An item is
    relevant if it shares a label with the query: mAP image to text, text to image, and within a
    modality. NDCG's gain is the number of labels that they share; those of another ``relevance``
    add to those of ``y``, so that an item of the same subclass gains 2, of the same class 1.

    Rows of zeros in a multi-hot ``y`` have no label. In the database they are relevant to none;
    among the queries mAP and NDCG leave them out, unless all are such, and a note says so.

    Pair recall needs no labels: each query searches the other modality's side of all queries for
    its own (row i of both modalities is a pair). Data without labels have that and no mAP.

    A model that was trained in this process knows its training rows, and a note says how many of
    them are among the queries. A stored one does not, but a run folder does, and ``pyg-hash
    evaluate`` refuses such queries.

    Args:
        model: anything with ``num_bits``, and ``encode(data, modality)`` for codes of all nodes;
            its ``protocol(data)``, if it has one, names the protocol in place of the graph's.
        data: both modalities with ``query_mask`` and ``database_mask``, and ``y`` if known.
        split: ``'query'``, or ``'val'`` for a choice of settings that leaves the queries alone.
        topk: see :func:`mean_average_precision`, as ``ties`` and ``denominator``.
        ties: what order items at equal distance come in.
        denominator: what the sum of precisions is divided by.
        relevance: the attribute of both modalities that holds the labels to share, class index
            ``[N]`` or multi-hot ``[N, C]``, e.g. ``'subgroup'`` of ``Emoji``.
        warn: whether to warn of what is odd.

    ``TypeError`` or ``ValueError``: no queries, no database, a query inside the database; codes,
    masks or labels that are missing or do not fit; a graph of other masks; unknown options.
    ``CollapseWarning``: more than half of a database has one code. ``OddDataWarning``: queries
    share no label with its items, or repeat pairs of it, or are training pairs; features are scaled
    otherwise than those that the model was trained on; an inductive class of somebody else's gives
    new items other codes.
    """
    check_choice(split, ("query", "val"), "split")
    say: Callable[..., None] = _warn if warn else lambda *told: None
    check_definition(topk, ties, denominator)  # before the encoding, which may take long
    check_one_graph(data)
    parts = {m: _rows(data, m, split) for m in MODALITIES}
    labels, gains = _labels(data, relevance)
    if issubclass(_class_of(model), GraphHashModel):
        check_graph(data)
    codes = {m: model.encode(data, m) for m in MODALITIES}
    if not _is_scaled_alike(model, data):
        say(
            "data: features are scaled otherwise than those of the training, or data.scaling does "
            "not say how, so that codes may mean little; apply the same transforms, fitted on the "
            "same rows"
        )
    for m, given in codes.items():
        shape = list(getattr(given, "shape", [type(given).__name__]))
        expected = [data[m].database_mask.size(0), model.num_bits]
        if shape != expected:
            raise ValueError(f"model.encode(data, {m!r}): gave {shape}, not {expected}")

    named_protocol = name(data) if (name := getattr(model, "protocol", None)) else protocol(data)
    asks_anew = warn and split == "query" and named_protocol == "inductive"
    if asks_anew and (other_bits := _other_bits(model, data, codes, parts)) > _OTHER_BITS:
        say(
            f"{_class_of(model).__name__}: {other_bits:.0%} of the bits of queries differ between "
            "encode, as measured here, and encode_image and encode_text (relaxed_new), by which a "
            "search asks; make the two agree"
        )

    # the rows of the queries (0) or of the database (1), where the codes are
    (query, database), (own, others), (asked, offered) = (
        [{m: x.to(codes[m].device)[parts[m][part]] for m, x in of.items()} for part in (0, 1)]
        for of in (codes, labels, gains)
    )
    told = {m: oddities.judged_rows(y) for m, y in own.items()}
    maps: dict[str, Any] = dict.fromkeys(("i2t", "t2i", "i2i", "t2t"))
    paired = torch.equal(parts[IMAGE][0], parts[TEXT][0])
    recalls: dict[str, dict[int, float]] = {}
    graded: Scores = {}
    judged: dict[str, Scores] = {}
    for source, target in product(MODALITIES, repeat=2):
        way, items = f"{source[0]}2{target[0]}", database[target]
        if labels:
            rows = told[source]
            asking = query[source][rows], items, own[source][rows], others[target]
            scores = average_precision(*asking, topk, ties, denominator)
            maps[way] = float(scores.mean())
        if source == target:
            continue
        if paired:
            places = pair_places(query[source], query[target])
            recalls[way] = {k: expected_recall(*places, k) for k in RECALL_AT}
        labeled = asked.get(source), offered.get(target)
        ranking = Ranking(query[source], items, *labeled, graded=True)
        found = [
            (normalised_gain(counts, topk), tied_at(counts.sum(2), EDGE))
            for counts in ranking.counts_by_gain()
        ]
        ndcg, edge = (torch.cat(x) for x in zip(*found, strict=True))
        if labels:
            graded[way] = float(ndcg[told[source].cpu()].mean())
        sizes = bucket_sizes(items)
        largest = int(sizes.max())
        judged[target] = {
            "distinct_codes": sizes.numel(),
            "largest_bucket": largest,
            "edge_ties": float(edge.mean()),
        }
        if largest > max(1, len(items) // 2):
            say(
                f"{largest:,} of the {len(items):,} {target}s of the database have one and the "
                "same code, so a search cannot tell them apart: training collapsed, or the "
                "features hardly differ; look at them with pyg-hash data check, train longer or "
                "with a lower lr",
                oddities.CollapseWarning,
            )
    missed = max((oddities.unanswered(own[m][told[m]], others[other(m)]) for m in own), default=0)
    unjudged = max((int((~rows).sum()) for rows in told.values()), default=0)
    num_judged, what = len(query[IMAGE]) - unjudged, "labels" if relevance == "y" else relevance
    notes = _familiar(model, data, parts, split)
    for line in oddities.odd_queries(missed, num_judged, what) + notes:
        say(line)
    if unjudged:
        notes += [f"{unjudged} queries have no label: mAP and NDCG are of the other {num_judged}"]
    read, share = _labels_read(model, data)
    named = "" if relevance == "y" else f", relevance={relevance}"
    return Evaluation(
        **maps,
        protocol=named_protocol,
        definition=f"mAP@{topk or 'all'}, {ties} ties, denominator={denominator}{named}",
        num_labels=read,
        label_rate=share,
        unanswered=missed,
        num_queries=len(query[IMAGE]),
        num_database=len(database[IMAGE]),
        num_bits=model.num_bits,
        split=split,
        relevance=relevance,
        pair_recall=recalls,
        ndcg=graded,
        codes={m: judged[m] for m in MODALITIES},
        notes=notes,
    )


def _warn(line: str, kind: type[oddities.OddDataWarning] = oddities.OddDataWarning) -> None:
    warnings.warn(line, kind, stacklevel=3)  # where evaluate was called


def _class_of(model: Any) -> type:
    return type(getattr(model, "_orig_mod", model))  # of a compiled one too


def _mask(data: HeteroData, name: str) -> Tensor | None:
    """A mask of the images, which hold those of both; None if there is none."""
    mask = data[IMAGE].get(name)
    return mask.bool() if is_mask(mask) else None


def _labels_read(model: Any, data: HeteroData) -> tuple[int | None, float | None]:
    """How many labels of training items the model read, and their share; None: not known."""
    train, labeled = _mask(data, "train_mask"), _mask(data, "labeled_mask")
    if train is None or labeled is None:
        return None, None
    reads = getattr(model, "reads_labels", True) and "y" in data[IMAGE]
    read = int((labeled & train & oddities.has_label(data[IMAGE].y)).sum()) if reads else 0
    return read, read / max(int(train.sum()), 1)


def _familiar(model: Any, data: HeteroData, parts: Any, split: str) -> list[str]:
    """What the training saw of the queries, in lines."""
    train, queries = _mask(data, "train_mask"), parts[IMAGE][0]
    learnt = 0 if train is None else max(int(train[rows].sum()) for rows, _ in parts.values())
    repeated = 0
    sides = [data[m].get("x") for m in MODALITIES]
    dense = all(isinstance(x, Tensor) and x.layout == torch.strided for x in sides)
    if dense and torch.equal(queries, parts[TEXT][0]):
        now = data_rows(data)
        again = _repeated(sides, [now[m] for m in MODALITIES], *parts[IMAGE])
        repeated = int(again.sum()) if split == "query" else 0
        then = getattr(getattr(model, "intake", None), "trained", None)
        if then is not None and f"{IMAGE}.train" in then:
            now[f"{IMAGE}.query"] = queries.cpu()
            known = trained_queries(then, now)
            learnt = max(learnt, int((known & ~again).sum() if repeated else known.sum()))
    lines = [f"training rows among the queries: {learnt:,} of them"] if learnt else []
    if repeated:
        lines.append(
            f"{repeated:,} of {len(queries):,} queries repeat a pair of the database, in both "
            "features, and find what the training saw; keep equal pairs in one split"
        )
    return lines


def _other_bits(model: Any, data: HeteroData, codes: Any, parts: Any) -> float:
    """Share of the bits of some queries that differ if these come alone, as new items."""
    kind = _class_of(model)

    def is_ours(*names: str) -> bool:
        ways = (getattr(kind, name, _other_bits) for name in names)
        return all(way.__module__.startswith("pyg_hash.") for way in ways)

    news = {m: (f"encode_{m}", f"relax_{m}") for m in MODALITIES}
    # those of ours run one and the same network
    ours = is_ours("forward", "relaxed_new", "encode", *news[IMAGE], *news[TEXT])
    if getattr(model, "intake", None) is None or ours:
        return 0.0
    shares = [0.0]
    for m in MODALITIES:
        rows = parts[m][0][:: -(-len(parts[m][0]) // 100)]
        own = codes[m][rows.to(codes[m].device)]
        x = data[m].x
        if x.layout != torch.strided:  # a search takes none
            continue
        x, like = x[rows.to(x.device)], next(model.parameters(), x)
        try:
            with eval_mode(model):
                if is_ours(*news[m]):  # as Intake.prepare makes them
                    x = x.to(like if x.is_floating_point() else like.device)
                    new = binarize(model.relaxed_new(x, m))
                elif not model.intake.scaling(m):  # else x before scaling is not here
                    new = getattr(model, f"encode_{m}")(x)
                else:
                    continue
            shares.append(float((new.to(own) != own).float().mean()))
        except NotImplementedError:  # a class may have no codes of new items
            continue
        except Exception as error:  # the measures need none of them
            what = f"{type(error).__name__}: {error}"
            _warn(f"{kind.__name__}: cannot encode a new {m}, as a search asks ({what})")
    return max(shares)


def _is_scaled_alike(model: Any, data: HeteroData) -> bool:
    """Whether the scaling of data is that which the model keeps for new items, if it keeps one."""
    if not hasattr(getattr(model, "intake", None), "scaling"):
        return True
    for m in MODALITIES:
        ours, theirs = model.intake.scaling(m), data.scaling.get(m, {}) if "scaling" in data else {}
        if ours.keys() != theirs.keys():
            return False
        for name, value in ours.items():
            both = (torch.as_tensor(x, device="cpu") for x in (value, theirs[name]))
            own, other = (x.detach().double() for x in both)
            if own.shape != other.shape:
                return False
            # the mean of centred features is rounding alone
            near = (own - other).abs() <= 1e-5 + 1e-3 * own.abs().max()
            # directions of equal strength may be turned on another machine
            if name != "components" and not bool(near.all()):
                return False
    return True


def _labels(
    data: HeteroData, relevance: str
) -> tuple[dict[Modality, Tensor], dict[Modality, Tensor]]:
    """By modality: labels that relevant items share, and those whose number is the gain."""
    found: dict[str, dict[Modality, Tensor]] = {}
    for name in dict.fromkeys(("y", relevance)):
        if name == "y" and not any(name in data[m] for m in MODALITIES):
            continue
        for m in MODALITIES:
            if name not in data[m]:
                hint = "" if name == "y" else "; name labels that the data have, or leave it out"
                raise ValueError(f"data[{m!r}]: has no {name}{hint}")
            size = data[m].database_mask.size(0)
            check_labels(data[m][name], f"data[{m!r}].{name}", num_rows=size)
        found[name] = {m: data[m][name] for m in MODALITIES}
        columns = [y.size(1) for y in found[name].values() if y.dim() == 2]
        for m, y in found[name].items() if len(columns) == 1 else ():
            if y.dim() == 1:  # and a column a class on the other side
                check_labels(y, f"data[{m!r}].{name}", num_classes=columns[0])
                found[name][m] = F.one_hot(y.long(), columns[0])
    labels = found.get(relevance, {})
    if len(found) < 2:
        return labels, labels
    levels: list[Tensor] = []  # as zeros and ones, those of images above those of texts
    for of in found.values():
        y = torch.cat([of[m] for m in MODALITIES])
        levels.append((y if y.dim() == 2 else y[:, None] == torch.unique(y)).float())
    sizes = [len(y) for y in labels.values()]
    return labels, dict(zip(MODALITIES, torch.split(torch.cat(levels, 1), sizes), strict=True))


def _repeated(sides: list[Tensor], prints: list[Tensor], query: Tensor, database: Tensor) -> Tensor:
    """Which queries have both features of one pair of the database: bool ``[n]``."""
    image, text = prints
    pairs = image + math.pi * text  # near for equal rows, and by chance for some others
    found = same_rows(pairs[query.cpu()], pairs[database.cpu()])
    hits = (found >= 0).nonzero().squeeze(1)
    rows = query.cpu()[hits], database.cpu()[found[hits]]
    same = found >= 0
    for x in sides:
        one, two = (x[own.to(x.device)].flatten(1) for own in rows)
        same[hits] &= (one == two).all(dim=1).cpu()
    return same


def check_one_graph(data: Any) -> None:
    """Raise ``TypeError`` for a PyG ``Batch`` of graphs, which lists what is said of each."""
    if isinstance(data, Batch) and "graph" in data:
        one = "batch[0] or, in place of a DataLoader's, dataset[0]"
        raise TypeError(f"data: is a batch of graphs; give one of them, as {one}")


def _rows(data: HeteroData, modality: Modality, split: str) -> tuple[Tensor, Tensor]:
    """Row numbers of the queries and of the database of one modality."""
    masks = {}
    for key in (f"{split}_mask", "database_mask"):
        if key not in data[modality]:
            hint = "; apply ValidationSplit" if key == "val_mask" else ""
            raise ValueError(f"data[{modality!r}]: has no {key}{hint}")
        masks[key] = as_mask(data[modality][key], f"data[{modality!r}].{key}")
    query, database = masks.values()
    if split == "val":
        masks["database_mask"] = database = database & ~query
    for key, mask in masks.items():
        if not bool(mask.any()):
            raise ValueError(f"data[{modality!r}].{key}: selects no node; choose at least one")
    both = query & database
    if bool(both.any()):
        raise ValueError(
            f"data[{modality!r}]: {int(both.sum())} queries are also in the database (first: row "
            f"{int(both.nonzero()[0])}) and would find themselves; make query_mask and "
            "database_mask disjoint"
        )
    return query.nonzero().squeeze(1), database.nonzero().squeeze(1)

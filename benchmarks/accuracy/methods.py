"""The rows of the tables: what is trained, how, and under which protocols.

Settings are those of ``pyg-hash train``: what a row does not name is the command line's default,
so that no number stands in two places.
"""

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import pyg_hash.models
from pyg_hash.cli import build
from pyg_hash.cli.options import TrainConfig
from pyg_hash.models.files import stored_config
from pyg_hash.models.mcgcn import WEIGHTS as DEFAULTS
from pyg_hash.recipes import EVERY, presets, recipe
from pyg_hash.recipes import METHODS as RECIPES
from pyg_hash.typing import MODALITIES

ORDER = ("inductive", "strict", "transductive")
"""Protocols, from the one that lets a code depend on least."""
HELD_OUT = 0.2
"""Share of the labelled items that choose a setting."""
CHOICE_SEEDS = (0, 1, 2)
CHOICE_BITS = 32


def _with(options, path, value):
    """``options`` with another value at a path, ``('weights', 'balance')``."""
    name, *rest = path
    return {**options, name: _with(options.get(name) or {}, rest, value) if rest else value}


@cache  # thousands of lines have few settings
def _all_options(kind, options):
    """All options of a model, groups filled up, from some as JSON; but its sizes and its seed."""
    sizes = {"num_classes": 2} if "num_classes" in inspect.signature(kind).parameters else {}
    model = kind(dict.fromkeys(MODALITIES, 1), **sizes, **json.loads(options))
    left_out = ("num_features", "num_classes", "num_bits", "seed")
    found = {name: v for name, v in stored_config(model.config).items() if name not in left_out}
    if found.get("weights", {}).get("contrast") == 0:  # lines from before there was this term
        found["weights"] = {n: v for n, v in found["weights"].items() if n != "contrast"}
    return found


@dataclass(frozen=True)
class Method:
    """One way to get codes."""

    name: str  # of the row; unique
    model: str  # a class of pyg_hash.models
    config: dict[str, Any] = field(default_factory=dict)  # what differs from pyg-hash train's
    # what its graph can be; a method whose codes need no graph is inductive
    protocols: tuple[str, ...] = ("inductive",)
    # settings for with_values(): held-out labels choose one for each data set and label rate
    choices: tuple[Mapping[str, Any], ...] = ()
    data: tuple[str, ...] = ()  # where it is run, if not everywhere

    @property
    def labels(self):
        """Whether it reads labels; one that does not has one result for all label rates."""
        return "label_rate" in RECIPES[self.model] and self.config.get("label_rate") != 0

    def with_values(self, values):
        """The row under other settings, without a choice.

        Args:
            values: by name: ``lr``, ``epochs`` or ``k`` as in ``pyg-hash train``, ``model.X`` for
                the keyword X of the model, ``graph.X`` for one of the graph.
        """
        config = dict(self.config)
        for name, value in values.items():
            part, *path = name.split(".")
            if path:
                part += "_options"
                value = _with(config.get(part, {}), path, value)
            config[part] = value
        return replace(self, config=config, choices=())

    def candidates(self):
        """What there is to choose from, by the settings' text; empty for a row without choices."""
        texts = (", ".join(f"{name}={v}" for name, v in one.items()) for one in self.choices)
        rows = map(self.with_values, self.choices)
        return {text or "defaults": row for text, row in zip(texts, rows, strict=True)}

    def train_config(self, bits, labels, seed, protocol, **changes):
        """All settings of one run, ``changes`` included; those that the method lacks left out."""
        has = RECIPES[self.model]
        asked = {"label_rate": labels, "protocol": protocol}
        given = {name: value for name, value in asked.items() if name in has}
        others = set().union(*RECIPES.values()) - set(EVERY)
        own = {k: v for k, v in changes.items() if k in has or k not in others}
        mine = {**given, **self.config, **own}
        return build.with_defaults(TrainConfig(model=self.model, num_bits=bits, seed=seed, **mine))

    def settings(self, protocol, **changes):
        """All that decides its codes besides data, bits, labels and seed, as JSON values."""
        config = self.train_config(32, 0.5 if self.labels else None, 0, protocol, **changes)
        kind = getattr(pyg_hash.models, self.model)
        options = _all_options(kind, json.dumps(config.model_options, sort_keys=True))
        about = {"model": self.model, "options": options}
        about["graph"] = [repr(step) for step in build.recipe_of(config).graph]
        if config.epochs is not None:  # else it has a closed form
            steps = {"optimizer": "Adam", "lr": config.lr, "epochs": config.epochs}
            own = dict(config.optimizer)
            about["training"] = steps | {"optimizer": own.pop("name", "Adam")} | own
            if config.decay != 1:
                about["training"]["decay"] = config.decay
        if config.scaling:
            about["scaling"] = config.scaling
        if self.choices:
            about["choices"] = {"of": self.choices, "held_out": HELD_OUT}
            about["choices"] |= {"seeds": CHOICE_SEEDS, "bits": CHOICE_BITS}
        return json.loads(json.dumps(about))


def _model(**options):
    return {"model_options": options}


def _graph(**options):
    return {"graph_options": options}


_PAPER_SGCH = ("inductive", "strict")  # no edge leads across the modalities
_CODE_SGCH = ("inductive", "transductive")
_QUIET = _graph(progress=False)
_EDGES = _model(batches="edges", batch_size=128)
_EQ_1 = _graph(neighbor_weight=1.0)
_CODE_EQ_1 = _graph(graph="code", neighbor_weight=1.0)
_PAPER_TERMS = _model(weights={"balance": 0.1, "pairing": 0.0, "view": 0.0})
_LONGER = {"epochs": 200}
_ROWS = [
    Method("ClassCodes", "ClassCodes"),
    Method("ClassCodes, centred", "ClassCodes", _model(center=True)),
    Method("SCM", "SCM"),
    Method("DCMH", "DCMH"),
    Method("DCMH, chosen", "DCMH", choices=({}, {"lr": 2e-3, "epochs": 100})),
    Method("GCH", "GCH"),
    Method("GCH-A", "GCH", _model(variant="GCH-A")),
    *(Method(f"GCH {v}", "GCH", _model(variant=v)) for v in ("Try1", "Try2")),
    Method("GCH squared_nll", "GCH", _model(likelihood="squared_nll")),
    Method("GCH without self-loops", "GCH", _model(beacon={"add_self_loops": False})),
    Method("SGCH", "SGCH", {}, _PAPER_SGCH),
    Method(
        "SGCH, chosen",
        "SGCH",
        protocols=_PAPER_SGCH,
        choices=(
            *({}, {"graph.neighbor_weight": 0.2}),
            *(_LONGER, _LONGER | {"graph.neighbor_weight": 0.05}),
        ),
    ),
    Method("SGCH, 200 epochs", "SGCH", _LONGER, _PAPER_SGCH),
    Method("SGCH v1", "SGCH", _model(variant="v1"), _PAPER_SGCH),
    Method("SGCH, code's graph", "SGCH", _graph(graph="code"), _CODE_SGCH),
    # ablations are of the paper's model: its graph is that of Eq. 1, where a neighbour weighs 1
    Method("SGCH, paper's weight", "SGCH", _EQ_1, _PAPER_SGCH),
    Method("SGCH v1, paper's weight", "SGCH", _EQ_1 | _model(variant="v1")),
    Method("SGCH reversal, paper's weight", "SGCH", _EQ_1 | _model(adversary="reversal")),
    Method("SGCH linear, paper's weight", "SGCH", _EQ_1 | _model(similarity="linear")),
    Method("SGCH, code's graph, paper's weight", "SGCH", _CODE_EQ_1, _CODE_SGCH),
    Method("MCGCN", "MCGCN", {}, ORDER),
    # more labels: more steps, wider graph
    Method("MCGCN, chosen", "MCGCN", {}, ORDER, ({}, {"lr": 5e-3, "epochs": 200, "k": 50})),
    *(Method(f"MCGCN-{v}", "MCGCN", _model(variant=v), ORDER) for v in ("S", "IT", "A", "C")),
    Method("MCGCN, paper terms", "MCGCN", {"weight": "binary"} | _PAPER_TERMS, ORDER),
    *(Method(name, name) for name in ["LSH", "CCA", "ITQ", "CMFH", "IMH"]),
    # our defaults, but for features of few dimensions, which are alike: there they are less
    Method("DJSRH", "DJSRH", _model(mu=9.0)),
    Method("JDSH", "JDSH", _model(mu=4.8)),
    Method("DGCPN", "DGCPN"),
    Method("ITQ, unweighted", "ITQ", _model(weighted=False)),
    Method("DJSRH, paper's factor", "DJSRH", _model(mu=1.5)),
    Method("JDSH, code's factor", "JDSH", _model(mu=1.4)),
    Method("SGEH", "SGEH", _QUIET),
    *(Method(f"SGEH-{n}", "SGEH", _QUIET | _model(variant=f"SGEH-{n}")) for n in (1, 2, 3, 4)),
    *(
        Method(f"SGEH adjacency '{a}'", "SGEH", _QUIET | _model(adjacency=a))
        for a in ("induced", "paper")
    ),
    Method("SGEH, edge batches", "SGEH", _QUIET | {"epochs": 4} | _EDGES),
    Method("TaughtHash", "TaughtHash"),
    Method("TaughtHash, no labels", "TaughtHash", {"label_rate": 0.0}),
]
LETTERS = {
    **{"alpha": "quantization", "beta": "balance"},
    **{"gamma": "prediction", "eta": "reconstruction"},
}
WEIGHTS = {letter: DEFAULTS[term] for letter, term in LETTERS.items()}
"""The weights of MCGCN's loss that its Fig. 5 varies, and their defaults here."""
FACTORS = (0.01, 0.1, 10.0, 100.0)


def varied(weight, factor):
    """The row of MCGCN with one weight of its loss multiplied."""
    return f"MCGCN, {weight} x {factor:g}"


for _name, _value in WEIGHTS.items():
    for _factor in FACTORS:
        _weights = _model(weights={LETTERS[_name]: _value * _factor})
        _ROWS.append(Method(varied(_name, _factor), "MCGCN", _weights, ORDER))

PAPER, CODE = "paper's settings", "code's settings"
_NUSWIDE = "nuswide10k nuswide10k-vgg"
_WIKIPEDIA = "wikipedia wikipedia-bow wikipedia-sift wikipedia-vgg"
_NON_NEGATIVE = "wikipedia-sift wikipedia-vgg"  # what MCGCN's decoders can rebuild
# rows that train what a source states, and where; a name for each preset, because settings differ
# between data sets. GCH has none: its paper states no rates
for _name, _preset, _data in (
    (f"MCGCN, {PAPER}", "mcgcn/wikipedia", _NON_NEGATIVE),
    (f"MCGCN, {PAPER}, Adam 1e-4, 500 epochs", "mcgcn/wikipedia-adam", _NON_NEGATIVE),
    (f"MCGCN, {PAPER} (NUS-WIDE)", "mcgcn/nuswide10k", _NUSWIDE),
    (f"SGCH, {PAPER}", "sgch/wikipedia", _WIKIPEDIA),
    (f"SGCH, {CODE}", "sgch/wikipedia-program", _WIKIPEDIA),
    (f"SGCH, {PAPER} (NUS-WIDE)", "sgch/nuswide10k", _NUSWIDE),
    (f"SGCH, {CODE} (NUS-WIDE)", "sgch/nuswide10k-program", _NUSWIDE),
    (f"SGEH, {PAPER} (Wikipedia)", "sgeh/wikipedia", "wikipedia wikipedia-use"),
    (f"SGEH, {PAPER} (MIRFlickr)", "sgeh/mirflickr", "mirflickr25k-sgeh mirflickr25k-use"),
    (f"SGEH, {PAPER} (MS-COCO)", "sgeh/coco", "mscoco-sgeh mscoco-use"),
    (f"SGEH, {PAPER} (NUS-WIDE)", "sgeh/nuswide", "nuswide10-sgeh nuswide-use"),
):
    _kind = recipe(_preset).kind.__name__
    _stated = presets()[_preset].settings.get("protocol", "inductive")
    _config = {"recipe": _preset} | (_QUIET if _kind == "SGEH" else {})
    _ROWS.append(Method(_name, _kind, _config, (_stated,), data=tuple(_data.split())))

METHODS = {row.name: row for row in _ROWS}
assert len(METHODS) == len(_ROWS)

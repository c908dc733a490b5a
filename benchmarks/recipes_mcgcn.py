"""MCGCN: Wu, Li, Gao, Ji, Jing, Wan, Pattern Recognition 136, 2023. There is no released code."""

from __future__ import annotations

from typing import Any

from benchmarks.recipe import Recipe, Table

_LITERAL_LOSS: dict[str, Any] = {
    # Eq. 7 as sums, Eq. 6 and 8 as means, Sec. 4.2's weights; nothing of ours
    "reduction": "sum",
    "beta": 0.1,
    "gamma": 1000.0,
    "eta": 0.01,
    "adv_weight": 1.0,
    "pair_weight": 0.0,
    "view_weight": 0.0,
    "out_activation": "relu",
}
_LITERAL_GRAPH: dict[str, dict[str, Any]] = {
    "IntraKNN": {"k": 20, "anchors": "all", "weight": "binary"},
    "InterKNN": {"anchors": "all", "pair_edges": "labeled"},
    "LabelHub": {"self_loops": "literal"},
}
_TRAINING = {"optimizer": "SGD", "lr": 1e-4}
_UNSTATED = (
    "metric of the neighbours; epochs; what 'stochastic gradient descent' is; whether queries are "
    "nodes of the graph (the formulas want it); cut-off of the mAP"
)
_METRIC = "MAP, mean of 10 draws of the labelled pairs; cut-off unstated"
_RATES = ("30%", "70%", "100%")
_THIRD = ("30%",)
_BASELINES_REMARK = (
    "DGCPN uses no labels; SMLN does not hash, so it has the same numbers for all code lengths"
)
_VARIANTS_REMARK = (
    "without: S the cross-modal channel, IT the specific channels, A attention, C the modality "
    "classifier"
)

Rates = tuple[float, float, float]


def _row(
    i2t: tuple[Rates, Rates, Rates], t2i: tuple[Rates, Rates, Rates]
) -> dict[str, dict[int, tuple[float, ...]]]:
    """A method in Table 1 or 2: at 16, 32, 64 bits each, the numbers of ``_RATES``."""
    tasks = {"i2t": i2t, "t2i": t2i}
    return {task: dict(zip((16, 32, 64), rows, strict=True)) for task, rows in tasks.items()}


def _ablation(i2t: dict[str, list[float]], t2i: dict[str, list[float]]) -> Table:
    """Table 3 for one data set: variant -> 16, 32, 64 bits."""
    return Table(
        source="Table 3",
        metric=_METRIC,
        values={
            variant: {
                task: {
                    bits: (value,) for bits, value in zip((16, 32, 64), row[variant], strict=True)
                }
                for task, row in (("i2t", i2t), ("t2i", t2i))
            }
            for variant in i2t
        },
        columns=_THIRD,
        remark=_VARIANTS_REMARK,
    )


MCGCN_WIKIPEDIA = Recipe(
    method="MCGCN",
    data="Wikipedia, 10 classes; VGG fc7 4096-d images, bag-of-words 3000-d texts",
    split="train = database 2,173; query 693",
    model=_LITERAL_LOSS
    | {"alpha": 1.0, "hidden_channels": 512, "latent_channels": 2048, "shared_channels": 1024},
    graph=_LITERAL_GRAPH,
    training=_TRAINING,
    tables=(
        Table(
            source="Table 1",
            metric=_METRIC,
            columns=_RATES,
            values={
                "MCGCN": _row(
                    ((0.544, 0.678, 0.770), (0.638, 0.747, 0.824), (0.654, 0.751, 0.825)),
                    ((0.553, 0.680, 0.765), (0.641, 0.745, 0.823), (0.653, 0.751, 0.824)),
                ),
                "DGCPN": _row(
                    ((0.404, 0.404, 0.404), (0.411, 0.411, 0.411), (0.420, 0.420, 0.420)),
                    ((0.440, 0.440, 0.440), (0.474, 0.474, 0.474), (0.489, 0.489, 0.489)),
                ),
                "GCH": _row(
                    ((0.326, 0.432, 0.568), (0.388, 0.482, 0.615), (0.418, 0.506, 0.632)),
                    ((0.355, 0.579, 0.741), (0.413, 0.644, 0.752), (0.433, 0.675, 0.783)),
                ),
                "SMLN": _row(
                    ((0.449, 0.566, 0.676), (0.449, 0.566, 0.676), (0.449, 0.566, 0.676)),
                    ((0.413, 0.560, 0.664), (0.413, 0.560, 0.664), (0.413, 0.560, 0.664)),
                ),
                "RDCMH": _row(
                    ((0.334, 0.423, 0.461), (0.356, 0.437, 0.497), (0.367, 0.462, 0.500)),
                    ((0.359, 0.423, 0.450), (0.367, 0.440, 0.485), (0.384, 0.468, 0.515)),
                ),
                "SGCH": _row(
                    ((0.452, 0.572, 0.747), (0.509, 0.675, 0.784), (0.524, 0.680, 0.795)),
                    ((0.463, 0.660, 0.758), (0.502, 0.710, 0.803), (0.513, 0.715, 0.815)),
                ),
                "SCH-GAN": _row(
                    ((0.427, 0.472, 0.527), (0.429, 0.477, 0.528), (0.458, 0.491, 0.565)),
                    ((0.460, 0.668, 0.762), (0.508, 0.685, 0.810), (0.520, 0.690, 0.816)),
                ),
            },
            deviations={
                "MCGCN": {
                    "i2t": {
                        16: (7.0e-3, 5.0e-3, 2.1e-3),
                        32: (6.3e-3, 7.0e-3, 3.6e-3),
                        64: (7.6e-3, 2.1e-3, 1.0e-3),
                    },
                    "t2i": {
                        16: (5.3e-3, 8.1e-3, 1.5e-3),
                        32: (5.5e-3, 6.6e-3, 1.2e-3),
                        64: (8.2e-3, 2.3e-3, 5.8e-4),
                    },
                }
            },
            remark=_BASELINES_REMARK,
        ),
        _ablation(
            {
                "S": [0.521, 0.569, 0.575],
                "IT": [0.468, 0.495, 0.497],
                "A": [0.514, 0.552, 0.567],
                "C": [0.477, 0.588, 0.589],
                "full": [0.544, 0.638, 0.654],
            },
            {
                "S": [0.524, 0.567, 0.578],
                "IT": [0.471, 0.494, 0.498],
                "A": [0.513, 0.550, 0.568],
                "C": [0.478, 0.583, 0.593],
                "full": [0.553, 0.641, 0.653],
            },
        ),
    ),
    source="Sec. 4.1, 4.2",
    unstated=_UNSTATED,
)

MCGCN_NUSWIDE10K = Recipe(
    method="MCGCN",
    data="NUS-WIDE-10K, 10 classes; VGG fc7 4096-d images, bag-of-words 1000-d texts",
    split="train = database 8,000; query 2,000",
    model=_LITERAL_LOSS
    | {
        "alpha": 0.1,
        "hidden_channels": (1024, 512),
        "latent_channels": 1024,
        "shared_channels": 512,
    },
    graph=_LITERAL_GRAPH,
    training=_TRAINING,
    tables=(
        Table(
            source="Table 2",
            metric=_METRIC,
            columns=_RATES,
            values={
                "MCGCN": _row(
                    ((0.569, 0.689, 0.753), (0.590, 0.701, 0.781), (0.594, 0.702, 0.782)),
                    ((0.576, 0.687, 0.777), (0.592, 0.703, 0.780), (0.593, 0.705, 0.781)),
                ),
                "DGCPN": _row(
                    ((0.448, 0.448, 0.448), (0.454, 0.454, 0.454), (0.464, 0.464, 0.464)),
                    ((0.467, 0.467, 0.467), (0.486, 0.486, 0.486), (0.491, 0.491, 0.491)),
                ),
                "GCH": _row(
                    ((0.444, 0.491, 0.611), (0.480, 0.509, 0.621), (0.499, 0.534, 0.662)),
                    ((0.480, 0.648, 0.719), (0.531, 0.675, 0.763), (0.537, 0.688, 0.765)),
                ),
                "SMLN": _row(
                    ((0.502, 0.562, 0.705), (0.502, 0.562, 0.705), (0.502, 0.562, 0.705)),
                    ((0.513, 0.597, 0.723), (0.513, 0.597, 0.723), (0.513, 0.597, 0.723)),
                ),
                "RDCMH": _row(
                    ((0.395, 0.498, 0.612), (0.399, 0.502, 0.620), (0.434, 0.527, 0.624)),
                    ((0.407, 0.519, 0.667), (0.416, 0.523, 0.672), (0.455, 0.557, 0.678)),
                ),
                "SGCH": _row(
                    ((0.517, 0.586, 0.691), (0.553, 0.589, 0.730), (0.569, 0.659, 0.735)),
                    ((0.521, 0.617, 0.717), (0.567, 0.620, 0.725), (0.571, 0.632, 0.743)),
                ),
                "SCH-GAN": _row(
                    ((0.520, 0.588, 0.713), (0.528, 0.589, 0.724), (0.550, 0.596, 0.733)),
                    ((0.537, 0.672, 0.738), (0.546, 0.689, 0.743), (0.543, 0.693, 0.766)),
                ),
            },
            deviations={
                "MCGCN": {
                    "i2t": {
                        16: (4.5e-3, 5.9e-3, 3.6e-3),
                        32: (4.6e-3, 2.5e-3, 5.0e-3),
                        64: (4.0e-3, 6.4e-3, 5.0e-3),
                    },
                    "t2i": {
                        16: (7.6e-3, 6.7e-3, 4.7e-3),
                        32: (4.5e-3, 5.1e-3, 2.6e-3),
                        64: (2.7e-3, 5.9e-3, 4.0e-3),
                    },
                }
            },
            remark=f"{_BASELINES_REMARK}; SCH-GAN is printed as SGH-GAN",
        ),
        _ablation(
            {
                "S": [0.539, 0.564, 0.572],
                "IT": [0.504, 0.510, 0.524],
                "A": [0.568, 0.574, 0.589],
                "C": [0.504, 0.567, 0.568],
                "full": [0.569, 0.590, 0.594],
            },
            {
                "S": [0.542, 0.561, 0.571],
                "IT": [0.497, 0.508, 0.515],
                "A": [0.566, 0.571, 0.591],
                "C": [0.508, 0.563, 0.564],
                "full": [0.576, 0.592, 0.593],
            },
        ),
    ),
    source="Sec. 4.1, 4.2",
    unstated=_UNSTATED,
)

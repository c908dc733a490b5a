"""New items: how fast a fitted model encodes feature vectors that it has never seen.

    python -m benchmarks.encode [--short]

Data of Wikipedia's size: 2,173 pairs to train on, all of them anchors, features of 4096 and 3000
numbers (random, 10 clusters), 64 bits, one thread. MCGCN has autoencoders of 2048 and GCN layers of
512 and 1024, TaughtHash has a layer of 1024, the others layers of 512. encode_image and encode_text
take features of new items, check and scale them, join them to their 20 nearest anchors (MCGCN,
SGCH) and give codes. Weights are random, which costs the same as trained ones; "kNN" is the search
for these anchors alone, which it prepares in each call and a model once. "TaughtHash ONNX" is its
exported encoder in onnxruntime, 256 items at a time, if that is installed, and not in the short
form. "one" is a single item at a time. All times are CPU times.
"""

from functools import partial
from importlib.util import find_spec
from tempfile import TemporaryDirectory

import torch

from benchmarks import training_step
from benchmarks.measure import gemm_rate, side_by_side
from benchmarks.record import benchmark
from benchmarks.training_step import CLASSES, SHORT, TRAIN, pairs
from pyg_hash.knn import knn
from pyg_hash.models import GCH, SGEH, TaughtHash
from pyg_hash.models.onnx import export_onnx
from pyg_hash.typing import IMAGE, MODALITIES

MODELS = {
    "TaughtHash": lambda s: TaughtHash((s.image, s.text), CLASSES, s.bits),
    **training_step.MODELS,
    "GCH": lambda s: GCH((s.image, s.text), CLASSES, s.bits, hidden_channels=s.hidden),
    "SGEH": lambda s: SGEH((s.image, s.text), s.bits, hidden_channels=s.hidden),
}


def cases(sizes, new, data, onnx):
    """All models, none of them trained, on the same new items; the search for neighbours alone."""
    calls = {}
    g = torch.Generator().manual_seed(1)
    for modality in MODALITIES:
        x = torch.rand(new, data[modality].num_features, generator=g)
        for name, make in MODELS.items():
            torch.manual_seed(0)
            model = make(sizes).attach(data).eval()
            encode = model.encode_image if modality == IMAGE else model.encode_text
            calls[f"{name} {modality}"] = partial(encode, x)
            if name == "TaughtHash" and onnx:
                calls[f"{name} ONNX {modality}"] = partial(onnx_session(model, modality), x.numpy())
        anchors = data[modality].x[data[modality].anchor_mask]
        calls[f"kNN {modality}"] = partial(knn, x, anchors, sizes.k)
    return calls


def onnx_session(model, modality):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with TemporaryDirectory() as folder:
        export_onnx(model, f"{folder}/encoder.onnx", modality)
        session = onnxruntime.InferenceSession(f"{folder}/encoder.onnx", options)

    def run(x):  # more rows at a time are slower in onnxruntime
        return [session.run(None, {"features": x[i : i + 256]}) for i in range(0, len(x), 256)]

    return run


@benchmark("New items")
def main(record, args):
    sizes, new = (SHORT, 50) if args.short else (TRAIN, 2_000)
    data = pairs(sizes, 0.3)
    onnx = not args.short and all(map(find_spec, ("onnxruntime", "onnx", "onnxscript")))
    many = side_by_side(cases(sizes, new, data, onnx), repeats=5)
    one = side_by_side(cases(sizes, 1, data, onnx), repeats=10)
    speed = {name: new / seconds for name, seconds in many.items()}
    columns = {
        "new items a second": speed,
        "time, kNN = 1": {n: s / many[f"kNN {n.split()[-1]}"] for n, s in many.items()},
        "one, ms": {name: seconds * 1e3 for name, seconds in one.items()},
    }
    note = f"A square matrix product reached {gemm_rate() / 1e9:.0f} GFLOP/s at the end of the run."
    record.columns(f"{new:,} new items at a time, and one", "method", columns, note)
    for name in MODELS:
        slower = min(speed[f"{name} {modality}"] for modality in MODALITIES)
        least = 8_000 if name == "TaughtHash" else 2_000
        record.goal(f"{name}: new items a second, the slower modality", slower, at_least=least)
    if onnx:
        for title, times in (("2,000 at a time", many), ("one at a time", one)):
            ratios = [times[f"TaughtHash ONNX {m}"] / times[f"TaughtHash {m}"] for m in MODALITIES]
            record.goal(f"onnxruntime's time, encode_* = 1, {title}", max(ratios), at_most=1)
    record.bars("New items a second, one thread", speed, x="items a second")

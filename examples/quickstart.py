"""Train MCGCN on emoji and print the mAP: the library in a dozen lines."""

import torch
import torch_geometric.transforms as T

from pyg_hash.datasets import Emoji
from pyg_hash.metrics import evaluate
from pyg_hash.models import MCGCN
from pyg_hash.training import fit
from pyg_hash.transforms import InterKNN, IntraKNN, LabelHub, LabelRate, ScaleFeatures

torch.manual_seed(0)
graph = T.Compose([LabelRate(0.3), ScaleFeatures(), IntraKNN(k=20), InterKNN(), LabelHub()])
data = Emoji("data/emoji", pre_transform=graph)[0]
model = MCGCN(data.num_features, num_classes=9, num_bits=32)
fit(model, data, torch.optim.Adam(model.parameters(), lr=2e-3), epochs=80)
codes = model.encode(data, "image")
print(evaluate(model, data))  # mAP i2t, t2i, i2i, t2t with protocol and definition named

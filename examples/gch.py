"""GCH on emoji: supervised, an optimiser for each part, new items encoded by one network alone."""

import torch
import torch_geometric.transforms as T

from pyg_hash.datasets import Emoji
from pyg_hash.metrics import evaluate
from pyg_hash.models import GCH
from pyg_hash.training import fit
from pyg_hash.transforms import LabelRate, ScaleFeatures

torch.manual_seed(0)
raw = Emoji("data/emoji")[0]
new_texts = raw["text"].x[:3]  # as the data set delivers them: the model scales them itself
data = T.Compose([LabelRate(1.0), ScaleFeatures()])(raw)  # no graph: each batch makes its own

model = GCH(data.num_features, num_classes=data.num_classes, num_bits=32)
rates = {"label": 1e-3, "image": 1e-3, "text": 1e-3, "gcn": 1e-3}
optimizers = {
    part: torch.optim.Adam(parameters, lr=rates[part]) for part, parameters in model.parts().items()
}
history = fit(model, data, optimizers, epochs=20)  # an epoch: teacher, encoders, beacon, encoders
print({name: round(value, 3) for name, value in history[-1].items() if name.endswith("loss")})
print(evaluate(model, data))
print(model.encode_text(new_texts)[:, :8])

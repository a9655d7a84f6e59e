"""A table with intervals for your own network and data: an experiment file that names your code."""

import tempfile
from pathlib import Path

from rich.console import Console

from oblivio.bench import run as bench
from oblivio.bench.spec import read
from oblivio.bench.store import Store
from oblivio.report.table import print_table

CODE = """
import torch
from sklearn.datasets import load_wine
from torch import nn

def data():
    table, kind = load_wine(return_X_y=True)
    x = torch.tensor((table - table.mean(0)) / table.std(0), dtype=torch.float32)
    y, test = torch.tensor(kind), torch.arange(len(x)) % 4 == 0
    return (x[~test], y[~test]), (x[test], y[test])

def network(classes, width=16):
    return nn.Sequential(nn.Linear(13, width), nn.ReLU(), nn.Linear(width, classes))
"""

EXPERIMENT = """
data = { name = "wine_case:data" }
model = { name = "wine_case:network", width = 32 }
train = { epochs = 40, lr = 0.05, batch_size = 32 }
scenarios = [{ name = "items", file = "please_forget.csv" }]
methods = [{ name = "fine_tune", recipe = { epochs = 10, lr = 0.05, batch_size = 32 } }]
seeds = 3
"""

with tempfile.TemporaryDirectory() as folder:
    here = Path(folder)
    (here / "wine_case.py").write_text(CODE)
    (here / "please_forget.csv").write_text("id\n3\n14\n15\n92\n65\n")
    (here / "wine.toml").write_text(EXPERIMENT)

    # The same from the command line: oblivio run wine.toml
    experiment = read(here / "wine.toml")
    store = Store(here / "results")
    store.create()
    records = bench.run(experiment, store, jobs=1, tell=lambda event: None)
    print_table(records, Console())

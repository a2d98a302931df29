# Setup: the same in every lesson. It finds the course, or fetches it when you are on Colab.
import os, subprocess, sys
from pathlib import Path

REPOSITORY = "https://github.com/ai4india/ai4india"
here = Path.cwd()
root = next((p for p in (here, *here.parents, here / "ai4india") if (p / "ai4india_lib").is_dir()), None)
if root is None:
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", REPOSITORY, "ai4india"], check=True)
    root = here / "ai4india"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "-e", str(root)], check=True)
os.chdir(root)
sys.path.insert(0, str(root))

import torch
import ai4india_lib

torch.set_num_threads(2)  # two cores, and the same sums on every machine with two or more
torch.manual_seed(0)
ai4india_lib.plots.use_indic_fonts()
print("ready: ai4india_lib", ai4india_lib.__version__)

# Setup: the same in every lesson. It finds the course, or fetches it (on Colab). If it breaks off, run it again.
import importlib.metadata, importlib.util, os, subprocess, sys, tempfile
from pathlib import Path

REPOSITORY = "https://github.com/ai4india/ai4india"
here, installed = Path.cwd(), getattr(importlib.util.find_spec("ai4india_lib"), "origin", None)
fetched, address = here / "ai4india", os.environ.get("AI4INDIA_REPO", REPOSITORY)
places = [here, *here.parents, fetched] + ([Path(installed).parents[1]] if installed else [])
root = next((p for p in places if (p / "ai4india_lib").is_dir()), None)
try:
    if root is None:
        if fetched.exists():  # what broke off before: out of the way
            fetched.rename(Path(tempfile.mkdtemp(prefix="ai4india-", dir=here)) / "old")
        subprocess.run(["git", "clone", "--quiet", "--depth=1", address, "ai4india"], check=True)
        root = fetched
    if root == fetched and not installed:
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "-e", "ai4india"], check=True)
except (OSError, subprocess.CalledProcessError) as error:
    copy = f"copy the course ({address}, Code, Download ZIP) to this computer, and open the lesson in it"
    raise RuntimeError(f"The course did not come. Run this cell again; or, without a network: {copy}.") from error
os.chdir(root if (root / "data").is_dir() else here)
sys.path.insert(0, str(root))
import torch, matplotlib, ai4india_lib

if matplotlib.__version__ != importlib.metadata.version("matplotlib"):  # Colab loads its own before this cell
    raise RuntimeError("An older matplotlib is still in memory: restart the runtime, then run this cell again.")
torch.set_num_threads(2)  # two cores, and the same sums on every machine with two or more
torch.manual_seed(0)
ai4india_lib.plots.use_indic_fonts()
print("ready: ai4india_lib", ai4india_lib.__version__)

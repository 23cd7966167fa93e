"""README.md: its blocks, its commands, and which of those run."""

import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()

HAS_TORCH = importlib.util.find_spec("torch") is not None

# Every command is either in `RUN`, and runs on a few hundred of the shipped embeddings, or in `NOT_RUN` with the
# reason; both kinds are parsed.
RUN = (
    "clorg-scale doctor",
    "clorg-scale bench list",
    "clorg-scale analyze embeddings.npy --labels labels.npy --out results",
    "clorg-scale analyze train.npy --labels y.npy --test-embeddings test.npy --test-labels y_test.npy --out results",
    "clorg-scale compare results-contrastive results-supervised --out comparison",
    "clorg-scale figures comparison --format pdf",
    "clorg-scale issues embeddings.npy --labels labels.npy --out issues.csv",
)

NOT_RUN = {
    "make demo": "minutes; tests/readme/test_readme.py runs the command in it",
    "make test": "runs this test",
    "pip install .": "installs packages",
    "pip install '.[train]'": "installs packages",
    "pip install '.[interop]'": "installs packages",
    "pip install '.[plot]'": "installs packages",
    "pip install '.[dask]'": "installs packages",
    "pip install -c constraints-cuda13.txt '.[cuda13]'": "installs packages",
    "pip install -c constraints-cuda13.txt '.[rapids13]'": "installs packages",
    "pip install -c constraints-cuda13.txt -e '.[cuda13,test-core]'": "installs packages",
    "clorg-scale train --method simclr --backbone resnet18 --data cifar10 --download --out simclr": "hours, a download",
    "clorg-scale train --method supervised --backbone resnet18 --data cifar10 --out supervised": "hours, a download",
    "clorg-scale embed --checkpoint simclr --data cifar10 --split test --out simclr-test": "needs the training above",
    "clorg-scale train --method simclr --backbone resnet18 --data cifar10 --keep-embeddings --out run": "hours",
    "clorg-scale track run": "needs the training above; tests/analysis runs it",
    "dask scheduler": "runs until it is stopped; tests/dask_cluster starts a cluster",
    "dask worker tcp://HOST:8786": "needs the scheduler",
    "clorg-scale analyze embeddings.npy --labels y.npy --out results --dask tcp://HOST:8786": "needs the scheduler",
    "clorg-scale bench run knn --quick --install-peers --out records.jsonl": "installs packages; tests/bench runs it",
    "clorg-scale bench compare records.jsonl others.jsonl": "tests/bench runs it",
    "clorg-scale bench report records.jsonl": "tests/bench runs it",
    "clorg-scale study temperature --out temperature": "minutes; tests/studies runs it on fewer points",
    "python -m pytest -m gpu tests/gpu": "needs a GPU",
    "python bench/gpu_check.py": "needs a GPU",
}


def blocks(language: str, text: str = README) -> list[str]:
    """Contents of the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.M | re.S)


def shell_commands() -> list[str]:
    """Lines of the shell blocks without comments and without the space before them."""
    lines = "".join(blocks("sh")).splitlines()
    return [command for line in lines if (command := re.sub(r"\s+#.*", "", line).strip())]


def spans() -> list[str]:
    """Inline code, with line breaks as spaces."""
    text = re.sub(r"^```.*?^```$", "", README, flags=re.M | re.S)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


def inline_commands() -> list[str]:
    """Inline code that is a command."""
    starts = ("clorg-scale ", "python ", "make ", "pip ", "dask ")
    return sorted({span for span in spans() if span.startswith(starts)})

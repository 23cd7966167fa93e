"""What a training loads before it starts: every process and worker of one does."""

import subprocess
import sys


def test_training_and_embedding_are_imported_without_scikit_learn():
    script = (
        "import sys, clorg_scale.backbones.training, clorg_scale.backbones.embedding\n"
        "print([name for name in ('sklearn', 'scipy.stats', 'scipy.optimize') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""`study`: questions that the paper leaves open, one command with a table and a plot for each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clorg_scale.cli.app import app
from clorg_scale.cli.image_options import (
    Data,
    Epochs,
    LearningRate,
    Stem,
    TrainedBackbone,
    TrainingMethod,
    Width,
)
from clorg_scale.cli.options import AllowExternal, DeviceName, Out, Seed, read_labeled
from clorg_scale.cli.output import printable
from clorg_scale.counted import counted
from clorg_scale.errors import InputError, require
from clorg_scale.progress import stage_progress

if TYPE_CHECKING:
    from clorg_scale.studies.trainings import Setting

study = typer.Typer(
    help="Study a question that the paper leaves open; writes a table (CSV, JSON) and a page of plots (HTML).",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(study, name="study", short_help="Study questions that the paper leaves open.")

FirstImages = Annotated[
    int, typer.Option(help="Train on the first N images, and measure at most N unseen ones.", metavar="N")
]


@study.command(name="temperature", short_help="RLD at 24 temperatures.")
def study_of_temperature(
    embeddings: Annotated[
        list[Path] | None,
        typer.Argument(help="Embeddings with labels; default: those that come with the package.", metavar="FILES"),
    ] = None,
    *,
    out: Out,
    allow_external: AllowExternal = False,
    device: DeviceName = "auto",
    seed: Seed = 0,
) -> None:
    """Compute RLD at 24 temperatures from 2 to 0.02 and, for comparison, its value for shuffled labels."""
    from clorg_scale.studies.temperature import study_temperature

    sets = {_name(path): read_labeled(path, None, allow_external=allow_external) for path in embeddings or []}
    if len(sets) < len(embeddings or []):
        raise InputError("Two of the embeddings have the same name; rename one of the files.")
    rows = study_temperature(sets or None, out=out, device=device, seed=seed, progress=True)  # type: ignore[arg-type]
    _print_rows(rows, skip=("standard error", "shuffled"))
    print(f"Written: {printable(out)}")


@study.command(
    name="seeds", short_help="Spread of all measures over seeds of the training, on one or several data sets."
)
def study_of_seeds(
    *,
    out: Out,
    seeds: Annotated[int, typer.Option(help="Number of seeds.", metavar="N")] = 3,
    data: Annotated[
        list[str], typer.Option(help="Data set, as for train; may be given several times.", metavar="DATA")
    ] = ["fashion-mnist"],  # noqa: B006
    method: TrainingMethod = "simclr",
    backbone: TrainedBackbone = "resnet18",
    width: Width = 64,
    stem: Stem = "auto",
    epochs: Epochs = 30,
    learning_rate: LearningRate = 1e-3,
    first: FirstImages = 60_000,
    device: DeviceName = "auto",
    seed: Seed = 0,
) -> None:
    """Repeat a training with several seeds; report mean and standard deviation of every measure."""
    if seeds < 2:
        raise InputError(f"--seeds must be at least 2 for a standard deviation, not {seeds}.")
    if len({Path(name).name for name in data}) < len(data):
        raise InputError("Two of the data sets have the same name, and so would their results; rename one of them.")
    base = _setting(
        data=data[0],
        method=method,
        backbone=backbone,
        width=width,
        stem=stem,
        epochs=epochs,
        learning_rate=learning_rate,
        n_images=first,
        seed=seed,
    )
    for name in data:
        settings = [replace(base, data=name, seed=seed + i) for i in range(seeds)]
        folder = out if len(data) == 1 else out / Path(name).name
        rows = _run(settings, "seed", folder, device)
        from clorg_scale.studies.trainings import summarize

        print(f"\n{printable(name)}, {counted(seeds, 'seed')}")
        summary = summarize(rows).items()
        _print_rows([{"measure": measure, "mean": mean, "deviation": spread} for measure, (mean, spread) in summary])


@study.command(name="augmentation", short_help="Effect of the strength of the augmentation.")
def study_of_augmentation(
    *,
    out: Out,
    strengths: Annotated[
        str,
        typer.Option(help="Comma-separated strengths of the augmentation, from 0 to 2.", metavar="NUMBER,NUMBER,..."),
    ] = "0,0.25,0.5,1,1.5",
    data: Data = "fashion-mnist",
    method: TrainingMethod = "simclr",
    backbone: TrainedBackbone = "resnet18",
    width: Width = 64,
    stem: Stem = "auto",
    epochs: Epochs = 30,
    learning_rate: LearningRate = 1e-3,
    first: FirstImages = 60_000,
    device: DeviceName = "auto",
    seed: Seed = 0,
) -> None:
    """Train with several strengths of the augmentation, and measure how the embeddings are organized."""
    base = _setting(
        data=data,
        method=method,
        backbone=backbone,
        width=width,
        stem=stem,
        epochs=epochs,
        learning_rate=learning_rate,
        n_images=first,
        seed=seed,
    )
    try:
        chosen = [float(strength) for strength in strengths.split(",")]
    except ValueError as error:
        raise InputError(f"--strengths must be numbers separated by commas, not {strengths!r}.") from error
    _run([replace(base, strength=strength) for strength in chosen], "strength", out, device)


@study.command(name="architecture", short_help="Effect of the architecture of the backbone.")
def study_of_architecture(
    *,
    out: Out,
    backbones: Annotated[
        str, typer.Option(help="Comma-separated names of backbones.", metavar="NAME,NAME,...")
    ] = "resnet18,resnet34,resnet50,vit",
    data: Data = "fashion-mnist",
    method: TrainingMethod = "simclr",
    width: Width = 64,
    stem: Stem = "auto",
    epochs: Epochs = 30,
    learning_rate: LearningRate = 1e-3,
    first: FirstImages = 60_000,
    device: DeviceName = "auto",
    seed: Seed = 0,
) -> None:
    """Train several backbones, and measure how their embeddings are organized."""
    base = _setting(
        data=data,
        method=method,
        backbone="resnet18",
        width=width,
        stem=stem,
        epochs=epochs,
        learning_rate=learning_rate,
        n_images=first,
        seed=seed,
    )
    names = [name.strip() for name in backbones.split(",")]
    _run([replace(base, backbone=name) for name in names], "backbone", out, device)


@study.command(name="modality", short_help="Digits, tables and texts instead of images of objects.")
def study_of_modality(*, out: Out, device: DeviceName = "auto", seed: Seed = 0) -> None:
    """Analyze digits, tables and texts that come with scikit-learn and Python.

    Texts are embedded by latent semantic analysis and, where one is installed, by a sentence model.
    """
    from clorg_scale.studies.modality import study_modality
    from clorg_scale.studies.sentences import HOW_TO_GET, has_sentence_model

    with stage_progress("study of modalities", enabled=True):
        rows = study_modality(out=out, device=device, seed=seed)  # type: ignore[arg-type]
    _print_rows(rows)
    if not has_sentence_model():
        print(f"No sentence model is installed for the texts: {HOW_TO_GET}")
    print(f"Written: {printable(out)}")


def _setting(*, method: str, **settings: Any) -> Setting:
    """Setting of a training with the usual strength of the augmentation."""
    for package in ("torch", "torchvision"):
        require(package, extra="train", purpose="Training")
    from clorg_scale.studies.trainings import Setting

    return Setting(method=method, strength=0.4 if method == "supervised" else 1.0, **settings)


def _run(settings: list[Setting], vary: str, out: Path, device: str) -> list[dict[str, Any]]:
    from clorg_scale.studies.trainings import study_trainings

    def print_row(row: dict[str, Any]) -> None:
        print(
            f"{vary} {printable(row[vary])}: RLD {row['RLD 1']:.4f} (T = 1), {row['RLD 0.1']:.4f} (T = 0.1), "
            f"CHI {row['CHI 1']:.3f} to {row['CHI 100']:.3f}, linear {row['linear accuracy']:.3f}",
            flush=True,
        )

    with stage_progress(f"study over {vary}", enabled=True):
        rows = study_trainings(settings, vary=vary, out=out, device=device, report=print_row)  # type: ignore[arg-type]
    print(f"Written: {printable(out)}")
    return rows


def _print_rows(rows: list[Any], skip: tuple[str, ...] = ()) -> None:
    columns = [column for column in rows[0] if not any(word in column for word in skip)]
    texts = [
        [f"{v:.4g}" if isinstance(v := row[column], float) else printable(v) for column in columns] for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(columns, *texts, strict=True)]
    for line in [columns, *texts]:
        print("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)))


def _name(path: Path) -> str:
    return path.name.removesuffix(path.suffix)

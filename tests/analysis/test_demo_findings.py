"""The sentences that the demo ends with, from records whose numbers are known."""

from dataclasses import replace

from records import record

from clorg_scale.demo import findings
from clorg_scale.installation import pip_line


def models():
    first, second = record(name="first"), record(name="second")
    first = replace(first, rld=replace(first.rld, values=[0.07, 0.61, 0.73]))
    second = replace(second, rld=replace(second.rld, values=[0.22, 0.84, 0.65]))
    return {"first": first, "second": second}


def test_three_sentences():
    density, homogeneity, probes = findings(models())
    assert "T = 0.05) the classes are densest in the first embeddings (RLD first 0.730, second 0.650)" in density
    assert "T = 1) in the second ones (first 0.070, second 0.220)." in density
    assert homogeneity.endswith("at k = 1 and 1,000: first 0.870 and 0.530; second 0.870 and 0.530.")
    assert "(652 parameters" in probes
    assert "(5,130, sees" in probes
    assert probes.endswith("first 0.877 and 0.864; second 0.877 and 0.864.")


def test_without_pytorch_the_third_says_what_to_install():
    without = {name: replace(model, probes=model.probes[:2]) for name, model in models().items()}
    assert findings(without)[2].endswith(pip_line("train"))

"""Which engine trains where the user leaves it to us."""

import pytest

from eagleray_operator.reconcilers import engines
from tests.support.makers import job

CASES = [
    ({}, "NumPy", "one worker without GPU"),
    ({"training": {"precision": "Float64"}}, "NumPy", "one worker without GPU"),
    ({"training": {"precision": "BFloat16"}}, "Torch", "only torch has precision BFloat16"),
    ({"training": {"compile": "Default"}}, "Torch", "only torch has compile"),
    ({"training": {"parallelism": {"activationCheckpointing": "Full"}}}, "Torch", "only torch has activationCheckpointing"),
    ({"workers": {"max": 2}}, "Torch", "more than one worker"),
    ({"workers": {"gpus": 1}}, "Torch", "the workers have GPUs"),
    ({"model": {"family": "ConvolutionalNetwork"}}, "Torch", "only torch has ConvolutionalNetwork"),
]


@pytest.mark.parametrize(("spec", "engine", "words"), CASES, ids=str)
def test_the_engine_is_the_lightest_that_has_all_that_is_asked_for(spec, engine, words):
    found, choice = engines.for_training(job(**spec).spec)
    assert found == engine
    assert choice is not None
    assert words in choice.reason


def test_a_named_engine_is_taken_without_a_word():
    assert engines.for_training(job(training={"engine": "Torch"}).spec) == ("Torch", None)

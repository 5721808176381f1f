"""Many jobs composed quickly are those that a composition gives."""

import shlex

import pytest

from qexp.config.compose import Composer, composing

# Composing many jobs


@pytest.mark.parametrize(
    "words",
    [
        "dataset=cifar10 quantizer=br bits=2 quantizer.mix=[minmax@2,fp] protocol=short seed=3",
        "quantizer=daq weight_bits=1 activation_bits=2 keep_float=[] recipe=daq dataset=cifar10",
        "+recipe.epochs=3 ++seed=1 recipe.optimizer.clip={lr:0.5} 'init=\"my file.pt\"' threads=${seed}",
        "dataset.mean=[0.1] recipe.schedule.milestones=[] runs_dir=null quantizer=ste",
        "quantizr=daq",
        "recipe.epoch=3 bits=99",
        "quantizer=dag model=resnet19",
        "model=resnet18 model=resnet20",
        "~seed",
        "+quantizer=daq",
        "quantizer.mix.more=2",
        "keep_float.a=1",
    ],
)
def test_variants_give_the_jobs_that_a_composition_gives(words: str, composer: Composer) -> None:
    own = shlex.split(words)
    job, expected = composer.job(own), composer._composed_alone(tuple(own), composer.parse(own)[0])
    assert job == expected
    assert job.tree == expected.tree


def test_a_word_that_is_no_override_is_a_problem_of_its_job(composer: Composer) -> None:
    with composing():
        job = composer.job(["seed=1", "quantizer.mix=[minmax@2"])
    assert job.config is None
    assert str(job.problems[0]).startswith("quantizer.mix=[minmax@2: expected key=value")

"""Recipes: the named ones hold, TOML goes round, mistakes are named."""

from pathlib import Path

import pytest

from inkproof.errors import InputError
from inkproof.images import ImageSet
from inkproof.recipes import DEFAULT, Recipe, load_recipe, named_recipes, parse_recipe
from inkproof.recipes.building import build_learner, build_schedule
from inkproof.recipes.recipe import read_toml

NAMES = list(named_recipes())
MINIMAL = {"name": "mine", "epochs": 2, "model": {"name": "linear"}, "optimizer": {"lr": 0.1}}


@pytest.mark.parametrize("name", NAMES)
def test_every_named_recipe_is_built_and_takes_a_step(name: str, digits: ImageSet) -> None:
    recipe = load_recipe(name)
    images = digits if recipe.classes is None else digits.with_classes(recipe.classes, rest="drop")
    train, valid = images.split(valid=0.2)
    learner = build_learner(recipe, train, valid)
    row = next(learner.epochs(1, build_schedule(recipe)))
    assert row.valid_loss is not None
    assert learner.findings == []
    assert recipe.summary


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_goes_through_toml_unchanged(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    path = tmp_path / "recipe.toml"
    path.write_text(recipe.to_toml())
    assert load_recipe(path) == recipe
    assert parse_recipe(read_toml(path), where="x").to_toml() == recipe.to_toml()


def test_the_default_is_one_of_them() -> None:
    assert DEFAULT in NAMES


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": 3}, r"unknown key 'epoch'; did you mean 'epochs'\?"),
        ({"optimizer": {"lrr": 3, "lr": 1.0}}, r"unknown key 'optimizer.lrr'; did you mean 'lr'\?"),
        ({"model": {"name": "hidden", "unit": 3}}, r"unknown key 'model.unit'; did you mean 'units'\?"),
        ({"xyzzy": 3}, "unknown key 'xyzzy'; known keys: format_version, name, "),
        ({"epochs": 0}, r"epochs: Input should be greater than or equal to 1 \(it is 0\)"),
        ({"epochs": "many"}, r"epochs: .* \(it is 'many'\)"),
        ({"model": {"name": "resnet"}}, "model: .*'resnet'.*'mean-image', 'linear'"),
        (
            {"head": "binary"},
            "the head 'binary' takes the loss binary-cross-entropy or clamped-binary-cross-entropy, not cross-entropy",
        ),
        ({"loss": "rmse-softmax", "label_smoothing": 0.1}, "label_smoothing belongs to the loss cross-entropy"),
        ({"optimizer": {"lr": 0.1, "nesterov": True}}, "nesterov needs sgd with a momentum"),
        ({"optimizer": {"name": "adam", "lr": 0.1, "momentum": 0.9}}, "momentum belongs to sgd, not to adam"),
        ({"optimizer": None}, "an .optimizer. with a learning rate is needed"),
        ({"schedule": {"name": "constant", "warm_up": 0.1}}, "a constant schedule has no warm_up"),
        ({"format_version": 6}, r"made by a newer inkproof \(format 6, known: 5\)"),
        (
            {"format_version": 1, "model": {"name": "strong"}},
            r"made by an older inkproof \(format 1\), whose net 'strong' was another: train again",
        ),
        (
            {"format_version": 4, "model": {"name": "strong"}},
            r"\(format 4\), .*: train again; a recipe of your own takes today's with format_version = 5",
        ),
        (
            {"hard_examples": {"share": 0.3, "first": 0.2}},
            "hard_examples: a first epoch gives as many images as the share",
        ),
        ({"stem_learns": 0.5}, "stem_learns is for the model strong, whose first block it is about"),
        ({"clean_statistics": True}, "clean_statistics are those of batch normalisation, which the model strong alone"),
        (
            {"model": {"name": "mean-image"}, "optimizer": None, "hard_examples": {"share": 0.3}},
            "mean-image is fitted by averaging: it takes the head 'classes', no optimizer and no hard_examples",
        ),
        ({"name": "../x"}, "name: String should match"),
    ],
)
def test_a_bad_recipe_is_refused_with_key_and_rule(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse_recipe(MINIMAL | changes, where="mine.toml")
    assert str(caught.value).startswith("mine.toml: ")
    assert "\n" not in str(caught.value)


def test_a_recipe_of_the_format_before_is_read_where_nothing_has_changed_since() -> None:
    assert parse_recipe(MINIMAL | {"format_version": 1}, where="mine.toml").model.name == MINIMAL["model"]["name"]


def test_a_missing_key_is_named() -> None:
    with pytest.raises(InputError, match=r"mine.toml: epochs: Field required"):
        parse_recipe({key: value for key, value in MINIMAL.items() if key != "epochs"}, where="mine.toml")


def test_an_unknown_recipe_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown recipe 'acurate': did you mean 'accurate'\?"):
        load_recipe("acurate")
    (tmp_path / "bad.toml").write_text("epochs = = 3")
    with pytest.raises(InputError, match=r"bad\.toml: not a TOML file: .*line 1"):
        load_recipe(tmp_path / "bad.toml")
    with pytest.raises(InputError, match=r"none\.toml: cannot be read"):
        load_recipe(tmp_path / "none.toml")


def test_epochs_are_cut_to_the_images_seen_and_never_below_one() -> None:
    recipe: Recipe = parse_recipe(MINIMAL | {"epochs": 20, "most_images": 1000}, where="x")
    assert [recipe.epochs_for(images) for images in (10, 50, 60, 400, 5000)] == [20, 20, 16, 2, 1]
    assert parse_recipe(MINIMAL, where="x").epochs_for(10**6) == 2

"""What the image model learns from: scenes by lot, their captions, and what it never gets to see."""

from __future__ import annotations

import pytest

from serve_app.demo.training.judge import make_questions
from serve_app.demo.training.landscapes import BACKGROUND
from serve_app.demo.training.scenes import MOST_OBJECTS, OBJECT, Maker
from serve_app.demo.training.things import BEHIND, BY_LABEL, COLORS, THINGS, TIMES, is_held_out
from serve_app.demo.training.wording import pluralize, with_article


def test_the_same_seed_makes_the_same_scenes_and_another_seed_others() -> None:
    def make(seed: int) -> list[tuple[str, ...]]:
        maker = Maker(seed)
        return [maker.make().captions for _ in range(20)]

    assert make(3) == make(3)
    assert make(3) != make(4)


@pytest.mark.parametrize("ease", [1.0, 0.0])
def test_scenes_are_numbers_that_can_be_painted(ease: float) -> None:
    maker = Maker(1)
    maker.ease = ease
    for _ in range(200):
        scene = maker.make()
        assert scene.background.shape == (BACKGROUND,)
        assert scene.objects().shape == (MOST_OBJECTS, OBJECT)
        assert all(caption.strip() for caption in scene.captions)
        thing, behind, time, count = scene.labels()
        assert thing < len(THINGS)
        assert (BEHIND[behind], tuple(TIMES)[time]) == (scene.behind, scene.time)
        assert count == len(scene.things)


def test_things_stay_inside_of_the_picture() -> None:
    maker = Maker(2)
    for placed in (placed for _ in range(300) for placed in maker.make().things):
        edge = 0.47 * placed.size
        assert edge <= placed.x <= 1 - edge
        assert edge <= placed.y <= 1 - edge


def test_training_never_shows_what_the_judge_asks_for() -> None:
    maker = Maker(5)
    for _ in range(1500):
        scene = maker.make()
        assert not any(is_held_out(placed.thing, scene.behind) for placed in scene.things), scene.captions
    questions = make_questions(200)
    assert all(is_held_out(question.thing, question.behind) for question in questions)
    assert len({question.prompt for question in questions}) > 190


def test_the_judge_learns_from_everything() -> None:
    maker = Maker(5, everything=True)
    scenes = [maker.make() for _ in range(300)]
    assert any(is_held_out(placed.thing, scene.behind) for scene in scenes for placed in scene.things)


def test_a_twelfth_of_all_combinations_is_held_out() -> None:
    combinations = [is_held_out(thing, behind) for thing in THINGS for behind in BEHIND]
    assert sum(combinations) / len(combinations) == pytest.approx(1 / 12, abs=0.01)


def test_captions_say_what_there_is() -> None:
    maker = Maker(0)
    assert maker.prompt(BY_LABEL["red apple"], "blue") == "an apple on a blue background"
    assert maker.prompt(BY_LABEL["raccoon"], "garden", "night") == "a raccoon in a garden at night"
    for behind in COLORS:
        scene = maker.show(BY_LABEL["frog"], behind)
        assert "frog" in scene.captions[0]
        assert behind in scene.captions[0] or behind == "white"


@pytest.mark.parametrize(
    ("noun", "many"),
    [("frog", "frogs"), ("mouse", "mice"), ("cherry", "cherries"), ("mug of beer", "mugs of beer"), ("bus", "buses")],
)
def test_more_than_one(noun: str, many: str) -> None:
    assert pluralize(noun) == many


@pytest.mark.parametrize(
    ("noun", "named"),
    [("apple", "an apple"), ("unicorn", "a unicorn"), ("ufo", "a ufo"), ("bread", "bread"), ("scissors", "scissors")],
)
def test_articles(noun: str, named: str) -> None:
    assert with_article(noun) == named

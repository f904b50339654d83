"""What clips show: the things with their words and gaits, the scenes with their colours, and times of day."""

from __future__ import annotations

from dataclasses import dataclass

Color = tuple[int, int, int]

# --- things ----------------------------------------------------------------------------------------------------------

GAITS = {
    "walk": (
        ("walking", "running", "moving", "walking"),
        ("jumping up", "rising", "moving up"),
        ("falling", "moving down"),
    ),
    "fly": (
        ("flying", "moving", "flying"),
        ("flying up", "rising", "moving up"),
        ("flying down", "falling", "moving down"),
    ),
    "swim": (("swimming", "moving", "swimming"), ("swimming up", "rising", "moving up"), ("sinking", "moving down")),
    "drive": (
        ("driving", "moving", "driving"),
        ("rising", "moving up", "going up"),
        ("falling", "moving down", "going down"),
    ),
    "sail": (
        ("sailing", "moving", "sailing"),
        ("rising", "moving up", "going up"),
        ("sinking", "moving down", "going down"),
    ),
    "roll": (
        ("rolling", "moving", "rolling"),
        ("flying up", "rising", "moving up"),
        ("falling", "dropping", "moving down"),
    ),
    "float": (
        ("floating", "moving", "sliding"),
        ("rising", "floating up", "moving up"),
        ("falling", "sinking", "moving down"),
    ),
}
"""How a thing of a kind goes sideways, up and down."""

LAND = ("grass", "garden", "forest", "desert", "snow", "beach")
_ANIMALS = LAND[:3]


@dataclass(frozen=True, slots=True)
class Thing:
    """`label` finds the sprite, `nouns` are what captions call it; `sided` things look to the left."""

    label: str
    nouns: tuple[str, ...]
    gait: str
    places: tuple[str, ...]
    sided: bool = True


def _things() -> list[Thing]:
    rows = [
        (
            "walk",
            LAND,
            True,
            "cat dog horse rabbit elephant cow pig turtle snail monkey tiger zebra kangaroo crab penguin",
        ),
        (
            "walk",
            _ANIMALS,
            False,
            "raccoon fox bear panda frog lion chicken robot snowman dinosaur=T-Rex",
        ),
        (
            "fly",
            ("sky", "garden", "grass", "city"),
            True,
            "bird eagle parrot bee=honeybee owl butterfly airplane helicopter duck",
        ),
        (
            "fly",
            ("space", "sky"),
            False,
            "rocket ufo=flying_saucer planet=ringed_planet",
        ),
        (
            "swim",
            ("underwater", "sea"),
            True,
            "fish shark whale=spouting_whale octopus jellyfish",
        ),
        (
            "drive",
            ("city", "desert", "grass", "snow"),
            True,
            "car=automobile bus truck=delivery_truck tractor train=locomotive bicycle fire_truck=fire_engine",
        ),
        (
            "sail",
            ("sea",),
            True,
            "sailboat ship",
        ),
        (
            "roll",
            ("grass", "beach", "room"),
            False,
            "ball=soccer_ball basketball tennis_ball=tennis apple=red_apple orange=tangerine donut=doughnut",
        ),
        (
            "float",
            ("sky", "room", "garden"),
            False,
            "balloon star heart=red_heart flower=sunflower rose tree=evergreen_tree cactus house mushroom",
        ),
        (
            "float",
            ("room", "beach"),
            False,
            "banana pizza strawberry burger=hamburger ice_cream=soft_ice_cream cake=birthday_cake "
            "clock=alarm_clock guitar gift=wrapped_gift umbrella",
        ),
    ]
    found: dict[str, Thing] = {}
    for gait, places, sided, names in rows:
        for name in names.split():
            noun, _, label = name.replace("_", " ").partition("=")
            found[noun] = Thing(label or noun, (noun, *OTHER_NOUNS.get(noun, ())), gait, places, sided)
    return list(found.values())


OTHER_NOUNS = {
    "cat": ("kitten",),
    "dog": ("puppy",),
    "rabbit": ("bunny",),
    "chicken": ("hen",),
    "bee": ("honey bee",),
    "ufo": ("flying saucer", "spaceship"),
    "airplane": ("plane", "aeroplane"),
    "car": ("red car", "automobile"),
    "truck": ("lorry",),
    "bicycle": ("bike",),
    "ball": ("soccer ball", "football"),
    "donut": ("doughnut",),
    "sailboat": ("boat", "sailing boat"),
    "dinosaur": ("t-rex",),
    "flower": ("sunflower",),
    "apple": ("red apple",),
    "burger": ("hamburger",),
    "gift": ("present",),
    "balloon": ("red balloon",),
}
THINGS = _things()

# --- scenes ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scene:
    """Colours of the ground from the horizon down, of hills behind it, and what stands about."""

    words: tuple[str, ...]
    whole: str
    ground: tuple[Color, Color]
    hills: Color | None = None
    spikes: bool = False
    decor: tuple[str, ...] = ()
    decor_size: tuple[float, float] = (0.15, 0.22)
    sky: tuple[Color, Color] | None = None
    horizon: tuple[float, float] = (0.55, 0.65)


SCENES = {
    "grass": Scene(
        ("on the grass", "in a field", "in a meadow", "in the park", "on a green hill"),
        "a meadow",
        ((120, 195, 80), (60, 140, 50)),
        hills=(90, 165, 90),
    ),
    "garden": Scene(
        ("in a garden", "in the garden", "in a flower garden", "among flowers"),
        "a garden",
        ((110, 190, 80), (55, 135, 50)),
        decor=("tulip", "sunflower", "rose", "hibiscus", "blossom"),
    ),
    "forest": Scene(
        ("in a forest", "in the forest", "in the woods", "among trees"),
        "a forest",
        ((70, 130, 60), (40, 95, 45)),
        hills=(30, 90, 50),
        spikes=True,
        decor=("evergreen tree", "deciduous tree"),
        decor_size=(0.3, 0.42),
    ),
    "sea": Scene(
        ("on the sea", "in the ocean", "on the water", "at sea", "on a lake"),
        "the sea",
        ((45, 135, 205), (10, 65, 140)),
    ),
    "beach": Scene(
        ("on a beach", "on the beach", "on the sand", "by the sea"),
        "a beach",
        ((245, 222, 165), (225, 190, 125)),
        hills=(50, 150, 210),
        decor=("palm tree",),
        decor_size=(0.3, 0.4),
    ),
    "desert": Scene(
        ("in the desert", "in a desert", "on a sand dune"),
        "a desert",
        ((240, 200, 120), (215, 160, 80)),
        hills=(225, 175, 100),
        decor=("cactus",),
        decor_size=(0.18, 0.28),
    ),
    "snow": Scene(
        ("in the snow", "on snow", "in winter", "on a snowy field"),
        "a snowy landscape",
        ((248, 250, 255), (215, 228, 242)),
        decor=("evergreen tree",),
        decor_size=(0.25, 0.35),
    ),
    "mountains": Scene(
        ("in the mountains", "in front of mountains"),
        "mountains",
        ((110, 180, 90), (70, 140, 65)),
        hills=(140, 150, 170),
        spikes=True,
    ),
    "city": Scene(
        ("in a city", "in the city", "on a street", "on the road"),
        "a city",
        ((105, 107, 112), (75, 77, 82)),
        decor=("office building", "hotel", "house"),
        decor_size=(0.32, 0.45),
        horizon=(0.62, 0.7),
    ),
    "sky": Scene(
        ("in the sky", "in the air", "among clouds", "in a blue sky"),
        "the sky",
        ((150, 205, 245), (190, 228, 250)),
        decor=("cloud",),
        decor_size=(0.2, 0.32),
        horizon=(1.5, 1.6),
    ),
    "space": Scene(
        ("in space", "in outer space", "among the stars"),
        "space",
        ((8, 8, 22), (15, 10, 45)),
        sky=((8, 8, 25), (25, 15, 60)),
        decor=("star",),
        decor_size=(0.05, 0.08),
        horizon=(1.5, 1.6),
    ),
    "underwater": Scene(
        ("underwater", "under water", "under the sea", "in the deep sea"),
        "the deep sea",
        ((225, 200, 140), (190, 160, 110)),
        sky=((70, 185, 225), (8, 55, 120)),
        horizon=(0.84, 0.9),
    ),
    "room": Scene(
        ("in a room", "in a house", "on the floor", "indoors"),
        "a room",
        ((190, 140, 95), (160, 112, 72)),
        sky=((240, 225, 195), (240, 225, 195)),
        horizon=(0.66, 0.72),
    ),
}
FLOATING = ("sky", "space", "underwater")
"""Scenes without a ground to stand on."""

COLORS: dict[str, Color] = {
    "white": (250, 250, 250),
    "black": (18, 18, 20),
    "red": (214, 40, 40),
    "orange": (245, 135, 30),
    "yellow": (250, 214, 50),
    "green": (60, 160, 70),
    "blue": (40, 100, 215),
    "light blue": (160, 210, 245),
    "purple": (125, 60, 170),
    "pink": (246, 150, 190),
    "grey": (140, 142, 146),
    "brown": (125, 82, 50),
}
TIMES = {
    "day": ((), ((70, 150, 230), (185, 225, 250)), 1.0),
    "sunset": (("at sunset", "in the evening", "at dusk"), ((90, 50, 120), (255, 150, 60)), 0.7),
    "night": (("at night", "in the moonlight", "under the stars"), ((8, 12, 40), (30, 45, 100)), 0.4),
}
DISCS: dict[str, Color] = {"day": (255, 232, 90), "sunset": (255, 225, 110), "night": (250, 246, 220)}

LABELS = frozenset(thing.label for thing in THINGS) | {label for scene in SCENES.values() for label in scene.decor}
"""Every sprite that a clip may need."""

"""What the demo pictures show: about 200 things with their words, and the colours and places behind them.

A thing's label is its name in Unicode's emoji list (emojibase), which finds its sprites. After `=` stand the words for
it in captions, after `@` the places where it is at home.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

STYLES = ("noto", "flat", "3d")

COLORS = {
    "white": (250, 250, 250),
    "black": (18, 18, 20),
    "red": (214, 40, 40),
    "orange": (245, 135, 30),
    "yellow": (250, 214, 50),
    "green": (60, 160, 70),
    "blue": (40, 100, 215),
    "purple": (125, 60, 170),
    "pink": (246, 150, 190),
    "brown": (125, 82, 50),
    "grey": (140, 142, 146),
    "turquoise": (50, 190, 190),
    "light blue": (160, 210, 245),
    "dark blue": (18, 35, 95),
    "light green": (170, 225, 150),
    "beige": (240, 225, 195),
}

PLACES = {
    "grass": ("on grass", "on the grass", "in a meadow", "in a green field", "on a green hill", "in the park"),
    "garden": ("in a garden", "in the garden", "in a flower garden", "among flowers"),
    "forest": ("in a forest", "in the forest", "in the woods", "among trees"),
    "sea": ("on the sea", "in the sea", "on the ocean", "in the ocean", "on the water"),
    "beach": ("on a beach", "on the beach", "at the beach", "on the sand"),
    "desert": ("in the desert", "in a desert"),
    "snow": ("in the snow", "on snow", "in winter"),
    "mountains": ("in the mountains", "in front of mountains"),
    "city": ("in a city", "in the city", "on a street", "on the street", "on a road"),
    "room": ("in a room", "on the floor", "indoors", "at home"),
    "table": ("on a table", "on the table", "on a wooden table"),
    "sky": ("in the sky", "in the air", "among clouds"),
    "space": ("in space", "in outer space", "among the stars"),
    "underwater": ("underwater", "under water", "under the sea"),
}
BEHIND = (*COLORS, *PLACES)
EXPLORED = {
    "grass": "a meadow",
    "garden": "a garden",
    "forest": "a forest",
    "beach": "a beach",
    "desert": "the desert",
    "snow": "the snow",
    "mountains": "the mountains",
    "city": "a city",
    "room": "a room",
    "space": "space",
}
EMPTY_PLACES = {
    "grass": ("a meadow", "a green field", "green hills"),
    "garden": ("a garden", "a flower garden"),
    "forest": ("a forest", "the woods"),
    "sea": ("the ocean", "the sea"),
    "beach": ("a beach", "a sandy beach"),
    "desert": ("a desert", "the desert"),
    "snow": ("a snowy landscape", "snow"),
    "mountains": ("mountains", "the mountains"),
    "city": ("a city", "a street"),
    "sky": ("the sky", "a blue sky"),
    "space": ("space", "outer space"),
    "underwater": ("the deep sea", "an underwater scene"),
}
TIMES = {
    "day": ("on a sunny day", "under a blue sky"),
    "sunset": ("at sunset", "in the evening", "in front of a sunset"),
    "night": ("at night", "under the stars", "in the moonlight"),
}
TIMELESS = frozenset({"room", "table", "underwater", "space"})

_THINGS = {
    "animal": (
        "grass garden forest",
        "monkey,dog=dog|puppy,wolf@forest snow,fox,raccoon@garden forest,cat=cat|kitten@garden room,lion,"
        "tiger,leopard,horse,unicorn,zebra,deer@forest,cow,pig,ewe=sheep,goat@mountains grass,camel@desert,"
        "giraffe,elephant,rhinoceros=rhinoceros|rhino,rabbit=rabbit|bunny,chipmunk=squirrel|chipmunk@forest,"
        "hedgehog,bat@sky forest,bear@forest,polar bear@snow,koala@forest,panda@forest,kangaroo,"
        "chicken=chicken|hen,rooster,front-facing baby chick=chick|baby chick,penguin@snow,"
        "eagle@sky mountains,duck@sea grass,swan@sea,owl@forest,flamingo@beach sea,parrot@forest sky,frog,"
        "crocodile,turtle@beach,snake@desert grass,dragon@mountains sky,sauropod=dinosaur,T-Rex=t-rex,snail,"
        "butterfly@garden sky,honeybee=bee@garden,lady beetle=ladybug|ladybird@garden,spider",
    ),
    "sea animal": (
        "sea underwater",
        "spouting whale=whale,dolphin,fish,tropical fish,shark,octopus,jellyfish,crab@beach,lobster,"
        "spiral shell=shell|sea shell@beach",
    ),
    "food": (
        "table room",
        "grapes,watermelon,tangerine=orange|tangerine,lemon,banana,pineapple,red apple=apple|red apple,"
        "green apple,pear,cherries,strawberry,tomato,avocado,eggplant,carrot,ear of corn=corn,"
        "hot pepper=chili pepper,broccoli,mushroom@forest table,bread,pancakes,cheese wedge=cheese,"
        "hamburger=hamburger|burger,french fries=french fries|fries,pizza=pizza,hot dog,sandwich,"
        "cooking=fried egg,popcorn,soft ice cream=ice cream|ice cream cone,doughnut=donut|doughnut,cookie,"
        "birthday cake=birthday cake|cake,cupcake,lollipop,hot beverage=cup of coffee|coffee,teapot,"
        "wine glass=glass of wine|wine,beer mug=mug of beer|beer",
    ),
    "vehicle": (
        "city grass",
        "automobile=car|red car,taxi,police car,bus,fire engine=fire engine|fire truck,delivery truck=truck,"
        "tractor@grass,racing car=racing car|race car,motorcycle=motorcycle|motorbike,bicycle=bicycle|bike,"
        "skateboard,locomotive=train|steam train,sailboat=sailboat|boat@sea,ship@sea,"
        "airplane=airplane|plane@sky,helicopter@sky,rocket@space sky,"
        "flying saucer=ufo|flying saucer@space sky",
    ),
    "building": (
        "grass city mountains snow",
        "house=house|home,castle,church,tent,fountain@garden city,ferris wheel,volcano@grass desert",
    ),
    "sky": (
        "sky",
        "sun,full moon=moon|full moon,crescent moon,star,cloud,rainbow,"
        "high voltage=lightning|lightning bolt,snowflake@snow,ringed planet=planet@space,fire@forest,"
        "snowman@snow,balloon",
    ),
    "plant": (
        "garden grass",
        "rose,sunflower,tulip,cherry blossom=pink flower|cherry blossom,cactus@desert,palm tree@beach,"
        "evergreen tree=pine tree|fir tree@forest snow,deciduous tree=tree,potted plant@room,"
        "four leaf clover=clover|four leaf clover,Christmas tree=christmas tree@snow room",
    ),
    "object": (
        "table room",
        "wrapped gift=gift|present,trophy,soccer ball=soccer ball|football@grass,basketball,kite@sky,"
        "teddy bear,guitar,violin,trumpet,drum,mobile phone=phone|mobile phone,laptop=laptop|computer,"
        "television=television|tv,camera,light bulb,candle,closed book=book,key,locked=lock|padlock,hammer,"
        "axe,wrench,scissors,gear,magnet,ladder,microscope,crown,top hat=hat|top hat,glasses,backpack,"
        "running shoe=shoe|running shoe,t-shirt,dress,chair,bed,couch and lamp=sofa|couch,"
        "alarm clock=clock|alarm clock,pencil,envelope,gem stone=diamond|gem,anchor@beach sea,bomb,"
        "umbrella@beach city",
    ),
    "face": (
        "",
        "smiling face with smiling eyes=smiling face|smiley|happy face,crying face=crying face|sad face,"
        "enraged face=angry face,smiling face with sunglasses=face with sunglasses|cool face,"
        "smiling face with heart-eyes=face with heart eyes,clown face=clown,ghost,alien@space,robot@city,"
        "skull,jack-o-lantern=pumpkin|jack-o-lantern,red heart=heart|red heart",
    ),
    "person": (
        "grass city",
        "astronaut@space,princess,ninja,mermaid@sea underwater,cook=cook|chef@room",
    ),
}


@dataclass(frozen=True)
class Thing:
    """Something with sprites: `nouns` are its words, the first the usual one; `places` where it is at home."""

    label: str
    kind: str
    nouns: tuple[str, ...]
    places: tuple[str, ...]

    @property
    def lives(self) -> bool:
        return self.kind in ("animal", "sea animal", "person") or self.label == "robot"

    @property
    def flies(self) -> bool:
        return "sky" in self.places or "space" in self.places


def _read(kind: str, places: str, item: str) -> Thing:
    rest, _, own_places = item.strip().partition("@")
    label, _, nouns = rest.partition("=")
    return Thing(label, kind, tuple((nouns or label).split("|")), tuple((own_places or places).split()))


THINGS = tuple(_read(kind, places, item) for kind, (places, items) in _THINGS.items() for item in items.split(","))
NUMBER = {thing.label: number for number, thing in enumerate(THINGS)}
BY_LABEL = {thing.label: thing for thing in THINGS}
DECORATIONS = {
    "garden": ("tulip", "sunflower", "rose", "cherry blossom"),
    "forest": ("evergreen tree", "deciduous tree"),
    "city": ("house", "church"),
    "sky": ("cloud",),
    "beach": ("palm tree", "spiral shell"),
    "desert": ("cactus",),
    "snow": ("evergreen tree",),
    "underwater": ("tropical fish", "fish"),
    "space": ("ringed planet", "star"),
}


def is_held_out(thing: Thing, behind: str) -> bool:
    """Whether `thing` is never shown before `behind`, a colour or place, in training: the judge asks for these."""
    return zlib.crc32(f"{thing.label}|{behind}".encode()) % 12 == 0

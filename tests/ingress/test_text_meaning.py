"""The demo model means what it says: through HTTP, at the default threshold, on what it was not trained on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from serve_app.deployments.text import TextDeployment
from serve_app.profiles import DEMO
from tests.ingress.conftest import Configure, Loop, Running, Serving, with_client

CHAT = "/v1/chat/completions"


def is_held_out(a: int, b: int) -> bool:
    """The rule by which training leaves out sums, repeated here since the training code is not installed everywhere."""
    a, b = min(a, b), max(a, b)
    return (a * 7919 + b * 104729 + 13) % 10 == 0 and a > 9


HELD_OUT = [(a, b) for a in range(102, 990, 59) for b in range(35, 990, 61) if is_held_out(a, b)]


async def chat(client: httpx.AsyncClient, *turns: str, system: str | None = None, **fields: Any) -> dict[str, Any]:
    """The whole answer to the last of `turns`, which are the user's and the assistant's in turn."""
    messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]
    if system:
        messages = [{"role": "system", "content": system}, *messages]
    answer = await client.post(CHAT, json={"messages": messages, "max_tokens": 128, "temperature": 0, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def say(client: httpx.AsyncClient, *turns: str, **fields: Any) -> str:
    return (await chat(client, *turns, **fields))["choices"][0]["message"]["content"]


async def test_sums_that_it_never_saw(client: httpx.AsyncClient) -> None:
    right = [await say(client, f"What is {a} + {b}?") == f"{a} + {b} = {a + b}." for a, b in HELD_OUT[:20]]
    assert len(right) == 20
    assert sum(right) >= 19


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is 90 minus 35?", "90 - 35 = 55."),
        ("What is 7 times 8?", "7 * 8 = 56."),
        ("Which is larger, 17 or 71?", "71 is larger than 17."),
        (
            "What is a raccoon?",
            "A raccoon is an omnivorous nocturnal mammal native to North America and Central America.",
        ),
        ("Tell me about a fox.", "A fox is an alert carnivorous mammal with pointed muzzle and ears and a bushy tail."),
        ("What does to borrow mean?", "To borrow means to get temporarily."),
        ("What is the opposite of hot?", "The opposite of hot is cold."),
        ("What is the plural of mouse?", "The plural of mouse is mice."),
        ("What day comes after Friday?", "Saturday comes after Friday."),
        ("What is the capital of Norway?", "The capital of Norway is Oslo."),
        ("Spell raccoon.", "R-A-C-C-O-O-N."),
        ("How do you spell garden?", "G-A-R-D-E-N."),
        ("How many letters does garden have?", "Garden has 6 letters: G-A-R-D-E-N."),
    ],
)
async def test_what_it_knows(client: httpx.AsyncClient, question: str, answer: str) -> None:
    assert await say(client, question) == answer


async def test_it_remembers_what_was_said(client: httpx.AsyncClient) -> None:
    told = ("My name is Zebulon.", "Nice to meet you, Zebulon!")
    assert await say(client, *told, "What is 3 + 4?", "3 + 4 = 7.", "What is my name?") == "Your name is Zebulon."
    sums = ("What is 15 + 20?", "15 + 20 = 35.")
    assert await say(client, *sums, "And plus 7?") == "35 + 7 = 42."
    assert await say(client, *sums, "And minus 5?") == "35 - 5 = 30."
    capitals = ("What is the capital of France?", "The capital of France is Paris.")
    assert await say(client, *capitals, "And of Spain?") == "The capital of Spain is Madrid."


async def test_a_system_message_sets_the_tone(client: httpx.AsyncClient) -> None:
    plain = await say(client, "What is a ship?")
    assert await say(client, "What is a ship?", system="You are a pirate.") == f"Arr, matey! {plain}"


async def test_it_says_what_it_does_not_know(client: httpx.AsyncClient) -> None:
    assert await say(client, "What is a blorfinax?") == "I do not know the word blorfinax. I am a very small model."
    assert "I do not know that" in await say(client, "Who won the world cup in 1998?")


async def test_the_question_of_the_readme_at_its_temperature(client: httpx.AsyncClient) -> None:
    for seed in range(3):
        answer = await chat(client, "Hello! How are you?", temperature=0.7, seed=seed)
        assert answer["choices"][0]["message"]["content"] == "I am fine, thank you. How are you?"
        assert answer["choices"][0]["finish_reason"] == "stop"


async def test_a_conversation_as_long_as_the_demo_takes(serving: Serving) -> None:
    before = ("What is the plural of mouse?", "The plural of mouse is mice.") * 47
    with serving(text={"limits": DEMO["models"]["text"]["limits"]}) as running:
        async with running.client() as client:
            answer = await chat(client, *before, "What is 20 + 30?")
    assert answer["usage"]["prompt_tokens"] > 900
    assert answer["choices"][0]["message"]["content"] == "20 + 30 = 50."
    assert answer["choices"][0]["finish_reason"] == "stop"


async def test_longer_than_it_can_hold_is_refused_at_once(serving: Serving) -> None:
    """With the limits that the demo has where nobody sets others."""
    with serving(text={"limits": DEMO["models"]["text"]["limits"]}) as running:
        async with running.client() as client:
            long = {"messages": [{"role": "user", "content": "fox " * 2025}], "max_tokens": 32}
            answer = await client.post(CHAT, json=long)
            # few characters of many bytes, each a token
            dense = {"messages": [{"role": "user", "content": "\u20ac" * 1000}], "max_tokens": 32}
            denser = await client.post(CHAT, json=dense)
    assert answer.status_code == 400
    assert "limits.prompt_chars" in answer.json()["error"]["message"]
    assert denser.status_code == 400
    assert denser.json()["error"]["code"] == "context_length_exceeded"


@pytest.fixture(scope="module")
def by_algorithm(serving: Serving, configure: Configure, server_loop: Loop) -> Iterator[dict[str, Running]]:
    """The application over engines that commit tokens of which they are unsure; one of them goes over them again."""

    async def load(algorithm: str) -> TextDeployment:
        deployment = TextDeployment(configure(text={"algorithm": algorithm, "algorithm_config": {"threshold": 0.3}}))
        await deployment.check_health()
        return deployment

    low = server_loop.run(load("LowConfidence"))
    joint = server_loop.run(load("JointThreshold"))
    with (
        serving(lambda services: with_client(services, "text", low)) as hasty,
        serving(lambda services: with_client(services, "text", joint)) as editing,
    ):
        yield {"hasty": hasty, "editing": editing}
    for deployment in (low, joint):
        server_loop.run(deployment.close())


@pytest.fixture
async def ask_with(by_algorithm: dict[str, Running]) -> AsyncIterator[dict[str, httpx.AsyncClient]]:
    async with by_algorithm["hasty"].client() as hasty, by_algorithm["editing"].client() as editing:
        yield {"hasty": hasty, "editing": editing}


STORIES = [f"Tell me a story about a {hero}." for hero in ("fox", "robot", "bear", "queen")]


async def test_a_lower_threshold_takes_fewer_steps(
    client: httpx.AsyncClient, ask_with: dict[str, httpx.AsyncClient]
) -> None:
    async def tokens_per_step(client: httpx.AsyncClient) -> float:
        answers = [await chat(client, story) for story in STORIES]
        steps = sum(answer["nvext"]["denoising_steps"] for answer in answers)
        return sum(answer["usage"]["completion_tokens"] for answer in answers) / steps

    assert await tokens_per_step(client) * 1.5 < await tokens_per_step(ask_with["hasty"])


STRANGE = ("lanset", "cowherb", "bullpen", "coracan")
HONEST = (
    "I do not know the word {}. I am a very small model.",
    "I have not learned the word {}, sorry.",
    "Sorry, {} is not among the words I know.",
)


async def test_editing_mends_what_a_low_threshold_broke(ask_with: dict[str, httpx.AsyncClient]) -> None:
    """Committed all at once, three ways to say the same become a jumble; edited, some become whole again."""

    async def count_whole(client: httpx.AsyncClient) -> int:
        answers = [(word, await say(client, f"What is a {word}?", max_tokens=64)) for word in STRANGE]
        return sum(answer in [way.format(word) for way in HONEST] for word, answer in answers)

    assert await count_whole(ask_with["hasty"]) + 2 <= await count_whole(ask_with["editing"])

"""What `quality` saves of the time, and what it takes from the picture."""

from __future__ import annotations

import re
import statistics
from pathlib import Path
from typing import Any

import httpx

from benchmarks.gpu.asked import PATHS, draw_image, image_body, make_video, video_body
from benchmarks.gpu.lane import WAN, Lane
from benchmarks.gpu.measure import Body, Row, difference, post
from serve_app.profiles import PROFILES

SHIPPED = {kind: PROFILES["gpu"]["models"][kind]["quality"] for kind in ("image", "video")}
ULTRA: Body = {"method": "cache_dit", "scm_preset": "ultra", "scm_policy": "static"}
PRESETS: dict[str, dict[str, Body]] = {
    kind: {name: SHIPPED[kind][name]["step_caching"] for name in ("medium", "low")} | {"standard": ULTRA}
    for kind in SHIPPED
}
"""The presets that cache steps, by the word of `quality` that callers send."""
CALLED = {"medium": "balanced", "low": "fast", "standard": "ultra"}
EXACT = "flux-exact.png"
"""What `fp8` is compared with: `starts`, `presets` and `graphs` draw it."""


def presets(kind: str) -> Body:
    return {name: {"step_caching": caching} for name, caching in PRESETS[kind].items()}


def time_presets(lane: Lane, kind: str, work: str, ours: Any, exact: list[float]) -> None:
    """Beside our own exact ones of the same run. The first of a preset also mounts its cache."""
    for name in PRESETS[kind]:
        row = Row(work, CALLED[name], notes={"first_s": round(ours(name), 4)})
        row.ours = [ours(name) for _ in range(max(2, lane.rounds - 1))]
        row.notes |= {"exact_s": statistics.median(exact)}
        row.notes["of_exact"] = round(statistics.median(row.ours) / row.notes["exact_s"], 4)
        row.notes["settings"] = PRESETS[kind][name]
        lane.write(row)


def compare_presets(lane: Lane, client: httpx.Client, work: str, side: int, steps: int, **more: Any) -> None:
    """How far each preset's picture is from the exact one of its seed; two seeds."""

    def draw(quality: str | None, seed: int) -> bytes:
        chosen = {"quality": quality} if quality else {}
        return draw_image(client, image_body(side, steps, seed=seed, **chosen) | more)

    exact = {seed: draw(None, seed) for seed in (7, 8)}
    pictures = {f"exact-{seed}": data for seed, data in exact.items()}
    again = draw(None, 7)
    row = Row(work, notes={"again": difference(exact[7], again), "other_seed": difference(exact[7], exact[8])})
    lane.write(row)
    for name in PRESETS["image"]:
        drawn = {seed: draw(name, seed) for seed in exact}
        pictures |= {f"{CALLED[name]}-{seed}": data for seed, data in drawn.items()}
        away = [difference(exact[seed], drawn[seed]) for seed in exact]
        lane.write(Row(work, CALLED[name], notes={"to_exact": away}))
    folder = lane.state / "pictures"
    folder.mkdir(exist_ok=True)
    for name, data in pictures.items():
        (folder / f"{lane.name}-{re.sub('[ ,]+', '-', work)}-{name}.png").write_bytes(data)


def measure_presets(lane: Lane) -> None:
    """What `quality` saves, by our own application alone; the exact picture is kept for `fp8`."""
    side, counts = (128, (4, 8)) if lane.tiny else (1024, (28, 50))
    model: Body = {"gpus": 0.5, "quality": presets("image"), "warm_up_sizes": [[side, side]]}
    with lane.app("image-presets", {"image": model}) as app, lane.client(app) as client:
        for steps in counts:

            def ours(quality: str = "auto", steps: int = steps) -> float:
                body = image_body(side, steps, response_format="url", quality=quality)
                return post(client, PATHS["image"], body)[0]

            exact = [ours() for _ in range(lane.rounds)]
            time_presets(lane, "image", f"flux {side}x{side} {steps} steps", ours, exact)
        (lane.folder / EXACT).write_bytes(draw_image(client, image_body(side, counts[-1])))


def measure_video_presets(lane: Lane) -> None:
    shape, steps = ((128, 96, 5), 8) if lane.tiny else ((832, 480, 17), 50)
    model: Body = {"gpus": 0.5, "quality": presets("video"), "warm_up_sizes": [list(shape)]}
    with lane.app("video-presets", {"video": model}) as app, lane.client(app) as client:

        def ours(quality: str = "auto") -> float:
            return make_video(client, video_body(WAN, shape, steps, quality=quality))

        exact = [ours() for _ in range(lane.rounds)]
        work = f"wan-1.3b {shape[0]}x{shape[1]}, {shape[2]} frames, {steps} steps"
        time_presets(lane, "video", work, ours, exact)


def measure_demo(lane: Lane, checkpoint: Path) -> None:
    """The presets on a model that was trained: the project's small FLUX, whose pictures can be looked at."""
    model: Body = {"gpus": 0.1, "model": str(checkpoint), "quality": presets("image"), "warm_up_sizes": [[256, 256]]}
    model |= {"defaults": {"width": 256, "height": 256, "guidance_scale": 2.0}}
    prompts = (
        "a sunset over the ocean",
        "a red castle",
        "an apple and a banana on a table",
        "a rocket in space at night",
    )
    with lane.app("demo", {"image": model}) as app, lane.client(app) as client:
        for steps in (28, 50):
            for prompt in prompts:
                work = f"trained demo model 256x256 {steps} steps, {prompt}"
                compare_presets(lane, client, work, 256, steps, prompt=prompt)

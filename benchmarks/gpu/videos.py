"""Wan 1.3B beside the bare engine, and cancelled."""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from typing import Any

from benchmarks.gpu.asked import PATHS, bare_video, make_video, video_body
from benchmarks.gpu.lane import WAN, Lane
from benchmarks.gpu.measure import Row, in_turns
from benchmarks.gpu.presets import presets, time_presets


def measure_videos(lane: Lane) -> None:
    shape, steps = ((128, 96, 5), 8) if lane.tiny else ((832, 480, 17), 50)
    models = {"video": {"gpus": 0.5, "quality": presets("video"), "warm_up_sizes": [list(shape)]}}
    work = f"wan-1.3b {shape[0]}x{shape[1]}, {shape[2]} frames, {steps} steps"
    with ExitStack() as stack:
        app = stack.enter_context(lane.app("video-cold", models, row=Row("wan-1.3b start to ready, cold")))
        client = stack.enter_context(lane.client(app))

        def ours(steps: int = steps, **more: Any) -> float:
            return make_video(client, video_body(WAN, shape, steps, **more))

        lane.write(Row(f"{work}, first request after ready", ours=[ours()]))
        with lane.bare("bare-video", "video", lane.folder / WAN) as bare:
            bare_video(bare, shape, steps)
            row = Row(work)
            in_turns(row, lane.rounds, ours, lambda: bare_video(bare, shape, steps))
            lane.write(row)
        time_presets(lane, "video", work, lambda quality: ours(quality=quality), row.ours)
        usual = statistics.median(ours(4) for _ in range(2))
        row = Row(f"{work}, GPU free after a cancel", notes={"usual_s": round(usual, 3), "given_up_steps": 100})
        for i in range(5):
            body = video_body(WAN, shape, 100)
            job = client.post(PATHS["video"], json=body, headers={"Prefer": "respond-async"}).json()["id"]
            time.sleep(1.5 + 0.37 * i)
            asked = time.monotonic()
            client.post(f"{PATHS['video']}/{job}/cancel").raise_for_status()
            ours(4)
            row.ours.append(max(0.0, time.monotonic() - asked - usual))
        row.notes["longest_s"] = round(max(row.ours), 3)
        lane.write(row)
    with lane.app("video-warm", models, row=Row("wan-1.3b start to ready, warm")) as app, lane.client(app) as client:
        lane.write(Row(f"{work}, first after a warm start", ours=[make_video(client, video_body(WAN, shape, steps))]))

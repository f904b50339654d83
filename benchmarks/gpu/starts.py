"""From the start to ready, and the first request, with kernels to compile and without."""

from __future__ import annotations

from benchmarks.gpu.asked import PATHS, draw_image, image_body, make_video, video_body
from benchmarks.gpu.lane import WAN, Lane
from benchmarks.gpu.measure import Body, Row, post
from benchmarks.gpu.presets import EXACT, presets


def measure_starts(lane: Lane) -> None:
    """FLUX, then Wan 1.3B, each alone: the first start of a new home compiles, the second does not."""
    side, steps = (128, 4) if lane.tiny else (1024, 28)
    shape, count = ((128, 96, 5), 8) if lane.tiny else ((832, 480, 17), 50)
    image: Body = {"gpus": 1, "quality": presets("image"), "warm_up_sizes": [[side, side]]}
    video: Body = {"gpus": 1, "quality": presets("video"), "warm_up_sizes": [list(shape)]}
    for name in ("cold", "warm"):
        row = Row(f"flux start to ready, {name}")
        with lane.app(f"image-{name}", {"image": image}, row=row) as app, lane.client(app) as client:
            body = image_body(side, steps, response_format="url")
            first = post(client, PATHS["image"], body)[0]
            lane.write(Row(f"flux {side}x{side} {steps} steps, first after a {name} start", ours=[first]))
            exact = image_body(side, 2 * steps if lane.tiny else 50)
            (lane.folder / EXACT).write_bytes(draw_image(client, exact))
    for name in ("cold", "warm"):
        row = Row(f"wan-1.3b start to ready, {name}")
        with lane.app(f"video-{name}", {"video": video}, row=row) as app, lane.client(app) as client:
            work = f"wan-1.3b {shape[0]}x{shape[1]}, {shape[2]} frames, {count} steps, first after a {name} start"
            lane.write(Row(work, ours=[make_video(client, video_body(WAN, shape, count))]))

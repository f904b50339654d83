"""What LiteLLM's calls give, as one JSON object. A process of its own: LiteLLM warns while it is imported."""

from __future__ import annotations

import base64
import json
import sys
import time
from typing import Any

import litellm


def main(base_url: str) -> None:
    to: dict[str, Any] = {"api_base": base_url, "api_key": "none"}
    image = litellm.image_generation(prompt="A sunset", model="openai/demo/flux-tiny", size="64x64", **to)
    video: Any = litellm.video_generation(
        prompt="A raccoon", model="openai/demo/wan-tiny", seconds="1", size="64x64", **to
    )
    created = video
    while video.status in ("queued", "in_progress"):
        time.sleep(0.25)
        video = litellm.video_status(video_id=created.id, **to)
    content: Any = litellm.video_content(video_id=created.id, **to)
    sys.stdout.write(
        json.dumps(
            {
                "image": image.data[0].url,
                "status": video.status,
                "seconds": video.seconds,
                "size": video.size,
                "content": base64.b64encode(content).decode(),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])

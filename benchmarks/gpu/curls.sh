#!/usr/bin/env bash
# Dynamo's three curl lines, port changed and nothing else
set -u
if [ "${1:-}" = chat ]; then
echo "== chat"; curl -sS -w '\n%{http_code} %{time_total}s\n' -X POST http://localhost:8000/v1/chat/completions \
 -H "Content-Type: application/json" \
 -d '{
 "model": "inclusionAI/LLaDA2.0-mini-preview",
 "messages": [{"role": "user", "content": "Hello! How are you?"}],
 "temperature": 0.7,
 "max_tokens": 512
 }'
exit
fi
echo "== image"; curl -sS -w '\n%{http_code} %{time_total}s\n' http://localhost:8000/v1/images/generations \
 -H "Content-Type: application/json" \
 -d '{
 "model": "black-forest-labs/FLUX.1-dev",
 "prompt": "A sunset over the ocean",
 "size": "1024x1024",
 "response_format": "url",
 "nvext": {
 "num_inference_steps": 15
 }
 }' | tee /tmp/image.json
echo "== video"; curl -sS -w '\n%{http_code} %{time_total}s\n' http://localhost:8000/v1/videos \
 -H "Content-Type: application/json" \
 -d '{
 "prompt": "A curious raccoon exploring a garden",
 "model": "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
 "seconds": 2,
 "size": "832x480",
 "response_format": "url",
 "nvext": {
 "fps": 8,
 "num_frames": 17,
 "num_inference_steps": 50
 }
 }' | tee /tmp/video.json
for f in image video; do url=$(head -1 /tmp/$f.json | python3 -c 'import json,sys;print(json.load(sys.stdin)["data"][0]["url"])'); echo "$url"; curl -sS -o /tmp/$f.bin -w '%{http_code} %{size_download} bytes %{content_type}\n' "$url"; head -c 12 /tmp/$f.bin | od -An -c; done
echo "== an image for a text-to-video model"; curl -sS -w '\n%{http_code}\n' http://localhost:8000/v1/videos -H "Content-Type: application/json" \
 -d '{"prompt": "x", "model": "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "size": "832x480", "input_reference": {"image_url": "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAEAAAABACAIAAAAlC+aJAAAAS0lEQVR42u3PMQ0AAAwDoEqv9ErYvQQckD4XAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBgYHLAB8+AWnmfUycAAAAAElFTkSuQmCC"}, "nvext": {"num_frames": 17}}'

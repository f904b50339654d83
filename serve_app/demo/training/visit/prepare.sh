#!/bin/bash
# prepare.sh FOLDER: all that goes along to the GPU machine, which has torch and transformers but reaches no registry.
# Needs node, npm, pip, apt-get, dpkg, and the project's .venv; four minutes, 11 MB. Run it from the project's root.
set -eu
folder=$(mkdir -p "$1" && cd "$1" && pwd); root=$PWD; python=$root/.venv/bin/python
training=serve_app/demo/training
npm install --silent --no-audit --no-fund --prefix "$folder/.npm" @iconify-json/noto@1.2.9 @iconify-json/fluent-emoji@1.2.7 \
  @iconify-json/fluent-emoji-flat@1.2.6 emojibase-data@17.0.0 @resvg/resvg-js@2.6.2
"$python" -m pip install --quiet --target "$folder/.site" --upgrade sentencepiece protobuf
PYTHONPATH=$folder/.site "$python" -m serve_app.demo.training.data "$folder/.npm" "$folder/data"
rm -rf "$folder/.npm" "$folder/.site" "$folder/serve_app" "$folder/wheels"
mkdir -p "$folder/$training" "$folder/wheels"
cp -r $training/. "$folder/$training"
for package in serve_app serve_app/demo; do echo '"""See the project."""' >"$folder/$package/__init__.py"; done
diffusers=$("$python" -c 'import diffusers; print(diffusers.__version__)')
"$python" -m pip download --quiet --no-deps --dest "$folder/wheels" "diffusers==$diffusers"
cp $training/visit/run.sh "$folder/"
$training/text/prepare.sh "$folder/data/text"
cp $training/text/words.json "$folder/$training/text/"
du -sh "$folder"

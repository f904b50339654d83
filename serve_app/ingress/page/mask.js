// Painting a mask over a picture: what is painted will be drawn anew, the rest is left alone.
//
// A stroke is { radius, points: [[x, y], ...] } in the picture's own pixels.

import { html, useEffect, useRef, useState } from "./html.js";
import { makeCanvas, toBlob } from "./picture.js";

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export function MaskPainter({ picture, strokes, onStrokes, onRemove }) {
  const [percent, setPercent] = useState(12);
  const [cursor, setCursor] = useState([picture.width / 2, picture.height / 2]);
  const canvas = useRef(null);
  const radius = (picture.width * percent) / 200;

  useEffect(() => {
    const context = canvas.current.getContext("2d");
    context.clearRect(0, 0, picture.width, picture.height);
    context.globalCompositeOperation = "source-over";
    draw(context, strokes);
  }, [picture, strokes]);

  const place = event => {
    const box = canvas.current.getBoundingClientRect();
    const scale = picture.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  };
  const begin = point => onStrokes(now => [...now, { radius, points: [point] }]);
  const extend = point => onStrokes(now => {
    const last = now.at(-1);
    return [...now.slice(0, -1), { ...last, points: [...last.points, point] }];
  });
  const press = event => {
    canvas.current.setPointerCapture(event.pointerId);
    begin(place(event));
  };
  const type = event => {
    const move = MOVES[event.key];
    if (event.key === " ") begin(cursor);
    else if (move) setCursor(cursor.map((at, axis) => clamp(at + move[axis] * radius, axis, picture)));
    else return;
    event.preventDefault();
  };
  const ring = {
    left: `${(100 * cursor[0]) / picture.width}%`,
    top: `${(100 * cursor[1]) / picture.height}%`,
    width: `${percent}%`,
  };

  return html`
    <div class="painter">
      <div class="easel">
        <img src=${picture.url} alt="The picture to change" />
        <canvas ref=${canvas} width=${picture.width} height=${picture.height} tabindex="0" role="application"
          aria-label="Paint over what should change. With the keyboard: arrow keys move, space paints."
          onPointerDown=${press} onPointerMove=${event => event.buttons && strokes.length && extend(place(event))}
          onKeyDown=${type}></canvas>
        <span class="ring" style=${ring}></span>
      </div>
      <p class="hint">Paint over what should change. Unpainted, all of it is drawn anew.</p>
      <label class="brush">Brush <input type="range" min="2" max="40" value=${percent}
        onInput=${event => setPercent(Number(event.target.value))} /></label>
      <div class="row">
        <button type="button" class="quiet" disabled=${!strokes.length}
          onClick=${() => onStrokes(now => now.slice(0, -1))}>Undo</button>
        <button type="button" class="quiet" disabled=${!strokes.length} onClick=${() => onStrokes([])}>Clear</button>
        <span class="grow"></span>
        <button type="button" class="quiet" onClick=${onRemove}>Remove</button>
      </div>
    </div>`;
}

// The mask as OpenAI's API wants it: as large as the picture, and transparent where it was painted.
export async function maskOf(picture, strokes) {
  const canvas = makeCanvas(picture.width, picture.height);
  const context = canvas.getContext("2d");
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.globalCompositeOperation = "destination-out";
  draw(context, strokes);
  return toBlob(canvas);
}

function draw(context, strokes) {
  context.lineCap = context.lineJoin = "round";
  context.strokeStyle = "#5468e0";
  for (const { radius, points } of strokes) {
    const [[x, y], ...rest] = points;
    context.lineWidth = 2 * radius;
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(x + 0.01, y);  // a line without length would not be drawn, not even as a dot
    for (const point of rest) context.lineTo(...point);
    context.stroke();
  }
}

const clamp = (at, axis, picture) => Math.min(axis ? picture.height : picture.width, Math.max(0, at));

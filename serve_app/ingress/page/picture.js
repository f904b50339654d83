// Pictures in the browser's memory: { blob, url, width, height, filename }. They come from a file, the clipboard, a
// drop, or an answer of the API.

import { html, useEffect, useRef, useState } from "./html.js";

// A picture of the user's own, as a PNG whose sides are at most `most` pixels: so no camera's rotation is left in it,
// and none is larger than the server takes.
export async function readPicture(file, most) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, most / Math.max(bitmap.width, bitmap.height));
  const canvas = makeCanvas(Math.round(bitmap.width * scale), Math.round(bitmap.height * scale));
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return { ...own(await toBlob(canvas)), width: canvas.width, height: canvas.height, filename: "picture.png" };
}

// A picture that came as base64.
export async function decodePicture(base64, format, size) {
  const bytes = Uint8Array.from(atob(base64), character => character.charCodeAt(0));
  const [width, height] = size.split("x").map(Number);
  return { ...own(new Blob([bytes], { type: `image/${format}` })), width, height, filename: `picture.${format}` };
}

const own = blob => ({ blob, url: URL.createObjectURL(blob) });

export function makeCanvas(width, height) {
  return Object.assign(document.createElement("canvas"), { width, height });
}

export const toBlob = canvas => new Promise(resolve => canvas.toBlob(resolve, "image/png"));

// A place to drop a picture on, to paste it into, or to choose one; `children` stand there once there is one.
export function PictureWell({ label, picture, most, onPicture, children }) {
  const [over, setOver] = useState(false);
  const [problem, setProblem] = useState("");
  const well = useRef(null);
  const take = async files => {
    const file = [...files].find(({ type }) => type.startsWith("image/"));
    if (!file) return;
    try {
      onPicture(await readPicture(file, most));
      setProblem("");
    } catch {
      setProblem(`${file.name || "That"} is no picture that this browser can read.`);
    }
  };
  useEffect(() => {
    const paste = event => well.current.checkVisibility() && take(event.clipboardData.files);
    addEventListener("paste", paste);
    return () => removeEventListener("paste", paste);
  });
  const drop = event => {
    event.preventDefault();
    setOver(false);
    take(event.dataTransfer.files);
  };
  const hover = event => {
    event.preventDefault();
    setOver(true);
  };
  return html`
    <div class="well" data-over=${over} ref=${well} onDragOver=${hover} onDragLeave=${() => setOver(false)}
      onDrop=${drop}>
      ${picture ? children : html`
        <label>
          <input type="file" class="unseen" accept="image/*" onChange=${event => take(event.target.files)} />
          <span>${label}</span>
          <small>Drop or paste a picture, or choose one</small>
        </label>`}
      ${problem && html`<p class="failure" role="alert">${problem}</p>`}
    </div>`;
}

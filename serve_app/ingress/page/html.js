// The libraries, under one roof: no other module names a file of vendor/.

import { h, render } from "./vendor/preact.js";
import { useEffect, useId, useRef, useState } from "./vendor/hooks.js";
import htm from "./vendor/htm.js";

export const html = htm.bind(h);
export { render, useEffect, useId, useRef, useState };

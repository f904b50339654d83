// Reads limits and defaults from /openapi.json, so that the forms show what this very server allows.

// What the API says of a field of a request: { fallback, minimum, maximum, choices }, where it says it.
// `path` is like "GenerationRequest.nvext.seed".
export function fieldOf(spec, path) {
  let schema = spec?.components.schemas;
  for (const [i, name] of path.split(".").entries()) {
    schema = i === 0 ? schema?.[name] : valueOf(spec, schema)?.properties?.[name];
  }
  if (!schema) return {};
  const { minimum, maximum, enum: choices } = valueOf(spec, schema);
  return { fallback: schema.default ?? undefined, minimum, maximum, choices };
}

// Width and height of the default size, and the bounds of a side.
export function sizesOf(spec, schema) {
  const size = spec?.components.schemas[schema]?.properties.size;
  const [width, height] = (size?.default ?? "").split("x").map(Number);
  const bounds = /(\d+) to (\d+) pixels/.exec(size?.description ?? "");
  if (!width || !height) return null;
  return { width, height, least: Number(bounds?.[1] ?? 64), most: Number(bounds?.[2] ?? Math.max(width, height)) };
}

// Sizes of about the default's area, in steps that every family takes: [{ name, size }], the default's shape first.
export function shapesOf(spec, schema) {
  const known = sizesOf(spec, schema);
  if (!known) return [];
  const side = Math.sqrt(known.width * known.height);
  const within = length => Math.min(known.most, Math.max(known.least, Math.round(length / 16) * 16));
  const shaped = ratio => `${within(side * Math.sqrt(ratio))}x${within(side / Math.sqrt(ratio))}`;
  const named = [["Square", 1], ["Landscape", 3 / 2], ["Portrait", 2 / 3]];
  const own = `${known.width}x${known.height}`;
  const others = named.map(([name, ratio]) => ({ name, size: shaped(ratio) })).filter(shape => shape.size !== own);
  const ratio = known.width / known.height;
  const name = ratio === 1 ? "Square" : ratio > 1 ? "Landscape" : "Portrait";
  return [{ name, size: own }, ...others.filter(shape => shape.name !== name)];
}

function valueOf(spec, schema) {
  if (schema?.$ref) return valueOf(spec, schema.$ref.slice(2).split("/").reduce((at, step) => at[step], spec));
  if (!schema?.anyOf) return schema;
  return valueOf(spec, schema.anyOf.find(member => member.type !== "null"));
}

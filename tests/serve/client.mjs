// The calls of an unmodified openai package from npm; what they give goes to standard output as one JSON object.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none" });

let blocks = 0;
let finish = null;
for await (const chunk of await client.chat.completions.create({
  model: "demo/llada2-tiny",
  messages: [{ role: "user", content: "Count from 10 to 30." }],
  max_tokens: 64,
  stream: true,
})) {
  if (chunk.choices[0]?.delta?.content) blocks += 1;
  finish = chunk.choices[0]?.finish_reason ?? finish;
}

const image = await client.images.generate({ model: "demo/flux-tiny", prompt: "A sunset", size: "64x64", response_format: "b64_json" });

let video = await client.videos.create({ model: "demo/wan-tiny", prompt: "A raccoon", seconds: "1", size: "64x64" });
while (video.status === "queued" || video.status === "in_progress") {
  await new Promise(resolve => setTimeout(resolve, 250));
  video = await client.videos.retrieve(video.id);
}
const content = Buffer.from(await (await client.videos.downloadContent(video.id)).arrayBuffer());
const reference = new File([Buffer.from(image.data[0].b64_json, "base64")], "first.png", { type: "image/png" });
const animated = await client.videos.create({ prompt: "It moves", seconds: "1", size: "64x64", input_reference: reference });
const remix = await client.videos.remix(video.id, { prompt: "A tired raccoon" });
const listed = [];
for await (const each of client.videos.list({ limit: 1 })) listed.push(each.id);
const deleted = await client.videos.delete(video.id);
const error = await client.videos.retrieve(video.id).catch(error => error);

console.log(JSON.stringify({
  blocks, finish,
  image: image.data[0].b64_json,
  video, content: content.toString("base64"), animated, remix, listed, deleted,
  error: { status: error.status, code: error.code, name: error.constructor.name },
}));

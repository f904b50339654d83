// The calls of Vercel's AI SDK; what they give goes to standard output as one JSON object.
import { createOpenAI } from "@ai-sdk/openai";
import { experimental_generateImage as generateImage, generateText } from "ai";

const openai = createOpenAI({ baseURL: process.argv[2], apiKey: "none" });
const image = await generateImage({ model: openai.image("demo/flux-tiny"), prompt: "A sunset", size: "64x64" });
const text = await generateText({
  model: openai.chat("demo/llada2-tiny"),
  prompt: "Hello",
  maxOutputTokens: 32,
});
console.log(JSON.stringify({
  image: image.image.base64,
  tokens: text.usage.outputTokens,
  finish: text.finishReason,
}));

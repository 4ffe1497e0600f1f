// What an application does with Vercel's ai package, over each of its providers.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { embed, generateObject, generateText, Output, streamText } from "ai";
import { plain, table } from "./call.mjs";
import { thing } from "./openai.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false;
const { prompt } = table;

function result(answer, { text, finishReason, usage, response, content, providerMetadata }) {
  answer.text = text;
  answer.finish = finishReason;
  answer.id = response?.id;
  answer.model = response?.modelId;
  answer.usage = plain(usage);
  answer.headers = response?.headers;
  answer.whole = plain({ content, finishReason, usage, providerMetadata, body: response?.body });
}

async function finish(answer, streamed) {
  const names = ["text", "finishReason", "usage", "response", "content", "providerMetadata"];
  const values = await Promise.all(names.map((name) => streamed[name]));
  result(answer, Object.fromEntries(names.map((name, index) => [name, values[index]])));
}

// Reads a stream to its end. The text stream ends where an error comes; the application is told by `onError`.
async function read(answer, { language, options }, more, consume) {
  let told;
  const onError = ({ error }) => (told ??= error);
  const streamed = streamText({ model: language, prompt, onError, ...more, ...options });
  try {
    await consume(streamed);
    await finish(answer, streamed);
  } catch (error) {
    throw told ?? error;
  }
  if (told) throw told;
  return streamed;
}

const calls = (dialect) => [
  { name: "generateText", dialect, kind: "text",
    run: async ({ language, options }, answer) => result(answer, await generateText({ model: language, prompt, ...options })) },
  { name: "streamText", dialect, kind: "text", streams: true,
    run: async (sdk, answer) => {
      await read(answer, sdk, {}, async ({ textStream }) => {
        for await (const text of textStream) answer.text += text;
      });
    } },
  { name: "streamText.fullStream", dialect, kind: "text", streams: true,
    run: async (sdk, answer) => {
      await read(answer, sdk, {}, async ({ fullStream }) => {
        for await (const part of fullStream) {
          answer.events.push(plain(part));
          if (part.type === "text-delta") answer.text += part.text;
          // Errors are parts of this stream.
          if (part.type === "error") throw part.error;
        }
      });
    } },
  { name: "generateObject", dialect, kind: "object",
    run: async ({ language, options }, answer) => {
      const generated = await generateObject({ model: language, prompt, schema: thing, ...options });
      result(answer, { ...generated, text: JSON.stringify(generated.object) });
      answer.parsed = generated.object;
    } },
  { name: "generateText+Output.object", dialect, kind: "object",
    run: async ({ language, options }, answer) => {
      const generated = await generateText({ model: language, prompt, output: Output.object({ schema: thing }), ...options });
      result(answer, generated);
      answer.parsed = generated.output;
    } },
  { name: "streamText+Output.object", dialect, kind: "object", streams: true,
    run: async (sdk, answer) => {
      const output = Output.object({ schema: thing });
      const streamed = await read(answer, sdk, { output }, async ({ partialOutputStream }) => {
        for await (const partial of partialOutputStream) answer.events.push(partial);
      });
      answer.parsed = await streamed.output;
    } },
];

const embedding = { name: "embed", dialect: "chat", kind: "data",
  run: async ({ embeddings, options }, answer) => {
    const { embedding, usage } = await embed({ model: embeddings, value: "one", ...options });
    answer.whole = plain({ embedding, usage });
  } };

const options = (maxRetries) => (maxRetries === undefined ? {} : { maxRetries });

function client(name, dialect, provide, more = []) {
  const make = ({ url, apiKey, headers, fetch, maxRetries }) => ({
    ...provide({ baseURL: `${url}/v1`, apiKey, headers, fetch }),
    options: options(maxRetries),
  });
  return { name, family: "vercel", make, calls: [...calls(dialect), ...more] };
}

const { model } = table;
export const vercel = [
  client("ai/openai.chat", "chat", (settings) => {
    const openai = createOpenAI(settings);
    return { language: openai.chat(model.chat), embeddings: openai.embedding(model.chat) };
  }, [embedding]),
  client("ai/openai", "responses", (settings) => ({ language: createOpenAI(settings)(model.responses) })),
  client("ai/anthropic", "messages", (settings) => ({ language: createAnthropic(settings)(model.messages) })),
];

// What an application does with the openai package.
import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { plain, table } from "./call.mjs";

const model = table.model.chat;
const messages = [{ role: "user", content: table.prompt }];
export const thing = z.object({ name: z.string(), litres: z.number() });

// === Chat Completions ===

function completion(answer, completion) {
  const [choice] = completion.choices;
  answer.text = choice.message.content ?? "";
  answer.finish = choice.finish_reason;
  answer.id = completion.id;
  answer.model = completion.model;
  answer.usage = completion.usage;
  answer.refusal = choice.message.refusal ?? undefined;
  answer.parsed = choice.message.parsed ?? undefined;
  answer.whole = plain(completion);
}

async function chatCreateStream(client, answer, more = {}) {
  for await (const chunk of await client.chat.completions.create({ model, messages, stream: true, ...more })) {
    answer.events.push(plain(chunk));
    Object.assign(answer, { id: chunk.id, model: chunk.model, usage: chunk.usage ?? undefined });
    for (const choice of chunk.choices) {
      answer.text += choice.delta.content ?? "";
      answer.finish = choice.finish_reason ?? answer.finish;
    }
  }
}

async function chatStream(client, answer, more = {}) {
  const stream = client.chat.completions.stream({ model, messages, ...more });
  stream.on("content", (delta) => (answer.text += delta));
  for await (const chunk of stream) answer.events.push(plain(chunk));
  completion(answer, await stream.finalChatCompletion());
}

const chatFormat = () => ({ response_format: zodResponseFormat(thing, "thing") });

// === Responses ===

function response(answer, response) {
  answer.text = response.output_text;
  answer.finish = response.status;
  answer.id = response.id;
  answer.model = response.model;
  answer.usage = response.usage ?? undefined;
  answer.parsed = response.output_parsed ?? undefined;
  answer.refusal = response.output.flatMap((item) => item.content ?? []).find((part) => part.type === "refusal")?.refusal;
  answer.whole = plain(response);
}

async function responsesCreateStream(client, answer) {
  for await (const event of await client.responses.create({ model, input: table.prompt, stream: true })) {
    answer.events.push(plain(event));
    if (event.type === "response.output_text.delta") answer.text += event.delta;
    if (event.type === "response.completed") {
      const { id, status, usage } = event.response;
      Object.assign(answer, { id, model: event.response.model, finish: status, usage, whole: plain(event.response) });
    }
  }
}

async function responsesStream(client, answer, more = {}) {
  const stream = client.responses.stream({ model, input: table.prompt, ...more });
  for await (const event of stream) {
    answer.events.push(plain(event));
    if (event.type === "response.output_text.delta") answer.text += event.delta;
  }
  response(answer, await stream.finalResponse());
}

const textFormat = () => ({ text: { format: zodTextFormat(thing, "thing") } });

export const openai = {
  name: "openai",
  family: "openai",
  sdk: OpenAI,
  make: ({ url, apiKey, headers, fetch, maxRetries }) =>
    new OpenAI({ baseURL: `${url}/v1`, apiKey, defaultHeaders: headers, fetch, ...(maxRetries !== undefined && { maxRetries }) }),
  calls: [
    { name: "chat.create", dialect: "chat", kind: "text",
      run: async (client, answer) => completion(answer, await client.chat.completions.create({ model, messages })) },
    { name: "chat.create+stream", dialect: "chat", kind: "text", streams: true, run: (client, answer) => chatCreateStream(client, answer) },
    { name: "chat.create+stream+usage", dialect: "chat", kind: "text", streams: true,
      run: (client, answer) => chatCreateStream(client, answer, { stream_options: { include_usage: true } }) },
    { name: "chat.stream", dialect: "chat", kind: "text", streams: true, run: (client, answer) => chatStream(client, answer) },
    { name: "chat.parse", dialect: "chat", kind: "object",
      run: async (client, answer) => completion(answer, await client.chat.completions.parse({ model, messages, ...chatFormat() })) },
    { name: "chat.stream+schema", dialect: "chat", kind: "object", streams: true, run: (client, answer) => chatStream(client, answer, chatFormat()) },
    { name: "responses.create", dialect: "responses", kind: "text",
      run: async (client, answer) => response(answer, await client.responses.create({ model, input: table.prompt })) },
    { name: "responses.create+stream", dialect: "responses", kind: "text", streams: true, run: responsesCreateStream },
    { name: "responses.stream", dialect: "responses", kind: "text", streams: true, run: (client, answer) => responsesStream(client, answer) },
    { name: "responses.parse", dialect: "responses", kind: "object",
      run: async (client, answer) => response(answer, await client.responses.parse({ model, input: table.prompt, ...textFormat() })) },
    { name: "responses.stream+schema", dialect: "responses", kind: "object", streams: true,
      run: (client, answer) => responsesStream(client, answer, textFormat()) },
    { name: "embeddings.create", dialect: "chat", kind: "data",
      run: async (client, answer) => (answer.whole = plain(await client.embeddings.create({ model, input: ["one", "two"] }))) },
    { name: "models.list", dialect: "chat", kind: "data",
      run: async (client, answer) => (answer.whole = plain((await client.models.list()).data)) },
  ],
};

// Calls whose substitute is not a friendly text.
const tool = { type: "function", function: { name: "lookup", parameters: { type: "object", properties: {} } } };
const forced = { type: "function", function: { name: "lookup" } };
export const forcedTools = [
  { name: "chat.create+forced-tool", dialect: "chat", kind: "object",
    run: async (client, answer) =>
      completion(answer, await client.chat.completions.create({ model, messages, tools: [tool], tool_choice: forced })) },
  { name: "responses.create+forced-tool", dialect: "responses", kind: "object",
    run: async (client, answer) =>
      response(answer, await client.responses.create({
        model, input: table.prompt, tool_choice: { type: "function", name: "lookup" },
        tools: [{ type: "function", name: "lookup", parameters: { type: "object", properties: {} }, strict: false }],
      })) },
];
export const continued = [
  { name: "responses.create+previous", dialect: "responses", kind: "data",
    run: (client) => client.responses.create({ model, input: table.prompt, previous_response_id: "resp_1" }) },
  { name: "responses.create+previous+stream", dialect: "responses", kind: "data", streams: true,
    run: (client) => client.responses.create({ model, input: table.prompt, previous_response_id: "resp_1", stream: true }) },
];
export const raw = [
  { name: "chat.withResponse", dialect: "chat", kind: "text",
    run: async (client, answer) => {
      const { data, response } = await client.chat.completions.create({ model, messages }).withResponse();
      answer.text = data.choices[0].message.content;
      answer.whole = response.headers;
    } },
  { name: "responses.withResponse", dialect: "responses", kind: "text",
    run: async (client, answer) => {
      const { data, response } = await client.responses.create({ model, input: table.prompt }).withResponse();
      answer.text = data.output_text;
      answer.whole = response.headers;
    } },
];

// What an application does with the @anthropic-ai/sdk package.
import Anthropic from "@anthropic-ai/sdk";
import { zodOutputFormat } from "@anthropic-ai/sdk/helpers/zod";
import { plain, table } from "./call.mjs";
import { thing } from "./openai.mjs";

const messages = [{ role: "user", content: table.prompt }];
const asked = { model: table.model.messages, max_tokens: 1000, messages };

function message(answer, message) {
  answer.text = message.content.filter((block) => block.type === "text").map((block) => block.text).join("");
  answer.finish = message.stop_reason;
  answer.id = message.id;
  answer.model = message.model;
  answer.usage = message.usage;
  answer.parsed = message.parsed_output ?? undefined;
  answer.refusal = message.stop_reason === "refusal" ? message.stop_details?.explanation : undefined;
  answer.whole = plain(message);
}

async function createStream(client, answer) {
  for await (const event of await client.messages.create({ ...asked, stream: true })) {
    answer.events.push(plain(event));
    if (event.type === "message_start") Object.assign(answer, { id: event.message.id, model: event.message.model });
    if (event.type === "content_block_delta") answer.text += event.delta.text;
    if (event.type === "message_delta") Object.assign(answer, { finish: event.delta.stop_reason, usage: event.usage });
  }
}

async function stream(client, answer, more = {}) {
  const stream = client.messages.stream({ ...asked, ...more });
  stream.on("text", (delta) => (answer.text += delta));
  for await (const event of stream) answer.events.push(plain(event));
  message(answer, await stream.finalMessage());
}

const format = () => ({ output_config: { format: zodOutputFormat(thing) } });

export const anthropic = {
  name: "@anthropic-ai/sdk",
  family: "anthropic",
  sdk: Anthropic,
  make: ({ url, apiKey, headers, fetch, maxRetries }) =>
    new Anthropic({ baseURL: url, apiKey, defaultHeaders: headers, fetch, ...(maxRetries !== undefined && { maxRetries }) }),
  calls: [
    { name: "messages.create", dialect: "messages", kind: "text",
      run: async (client, answer) => message(answer, await client.messages.create(asked)) },
    { name: "messages.create+stream", dialect: "messages", kind: "text", streams: true, run: createStream },
    { name: "messages.stream", dialect: "messages", kind: "text", streams: true, run: (client, answer) => stream(client, answer) },
    { name: "messages.stream.finalMessage", dialect: "messages", kind: "text", streams: true,
      run: async (client, answer) => message(answer, await client.messages.stream(asked).finalMessage()) },
    { name: "messages.parse", dialect: "messages", kind: "object",
      run: async (client, answer) => message(answer, await client.messages.parse({ ...asked, ...format() })) },
    { name: "messages.stream+schema", dialect: "messages", kind: "object", streams: true,
      run: (client, answer) => stream(client, answer, format()) },
    { name: "messages.countTokens", dialect: "messages", kind: "data",
      run: async (client, answer) => (answer.whole = plain(await client.messages.countTokens({ model: asked.model, messages }))) },
    { name: "models.list", dialect: "messages", kind: "data",
      run: async (client, answer) => (answer.whole = plain((await client.models.list()).data)) },
  ],
};

export const forcedTools = [
  { name: "messages.create+forced-tool", dialect: "messages", kind: "object",
    run: async (client, answer) =>
      message(answer, await client.messages.create({
        ...asked,
        tools: [{ name: "lookup", input_schema: { type: "object", properties: {} } }],
        tool_choice: { type: "tool", name: "lookup" },
      })) },
];
export const raw = [
  { name: "messages.withResponse", dialect: "messages", kind: "text",
    run: async (client, answer) => {
      const { data, response } = await client.messages.create(asked).withResponse();
      answer.text = data.content[0].text;
      answer.whole = response.headers;
    } },
];

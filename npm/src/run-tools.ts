// Answers that call tools, which run in the page, until an answer calls none.

import type { ChatCompletion, ChatMessage, ChatRequest, ChatTool, ChatToolCall, Completions } from "./chat.js";
import { SiskinError } from "./errors.js";
import type { RequestOptions } from "./exchange.js";

/** A tool with what runs it. Its result is the text that the model gets; anything but text is sent as JSON. */
export interface RunnableTool extends ChatTool {
  run: (args: never, call: ChatToolCall) => unknown;
}

export interface RunToolsRequest extends Omit<ChatRequest, "tools" | "stream" | "n"> {
  tools: RunnableTool[];
}

export interface RunToolsOptions extends RequestOptions {
  /** The most answers before the last one must be without a call; 10 by default. */
  maxRounds?: number;
}

/** What happens: an answer, or a tool's result, with the conversation so far. */
export interface ToolStep {
  /** What was added to the conversation. */
  message: ChatMessage;
  /** The completion, if it is an answer. */
  completion?: ChatCompletion;
}

/** A conversation that goes on by itself. Leaving the loop stops it. */
export interface ToolRun extends AsyncIterable<ToolStep> {
  /** The conversation so far, with what was asked. */
  readonly messages: readonly ChatMessage[];
  /** Runs to the end; resolves to the text of the last answer. */
  finalContent(): Promise<string>;
}

export function runTools(completions: Completions, request: RunToolsRequest, options: RunToolsOptions): ToolRun {
  const { maxRounds = 10, ...rest } = options;
  if (!Number.isSafeInteger(maxRounds) || maxRounds < 1) {
    throw new SiskinError("invalid_request", `\`maxRounds\` is ${String(maxRounds)}; it must be a positive integer`);
  }
  const { tools } = request;
  if (!Array.isArray(tools) || tools.some((tool) => typeof tool?.run !== "function")) {
    throw new SiskinError("invalid_request", "`tools` must be a list of tools with a function `run`");
  }
  const described = tools.map(({ run: _, ...tool }) => tool);
  const messages: ChatMessage[] = [...request.messages];
  async function* steps(): AsyncGenerator<ToolStep> {
    for (let round = 1; round <= maxRounds; round++) {
      // After a call that was required, the model is free to answer.
      const tool_choice = round === 1 ? request.tool_choice : "auto";
      const completion = await completions.create({ ...request, messages, tools: described, tool_choice, stream: false }, rest);
      const { message } = completion.choices[0]!;
      const { refusal: _, ...answer } = message;
      messages.push(answer);
      yield { message: answer, completion };
      if (!message.tool_calls) return;
      for (const call of message.tool_calls) {
        const content = await result(tools, call);
        const step: ChatMessage = { role: "tool", tool_call_id: call.id, content };
        messages.push(step);
        yield { message: step };
      }
    }
    throw new SiskinError("invalid_request", `the model still calls tools after ${maxRounds} answers; raise \`maxRounds\``);
  }
  const run = steps();
  return {
    messages,
    [Symbol.asyncIterator]: () => run,
    finalContent: async () => {
      for await (const _ of run);
      return (messages.at(-1)?.content as string | null) ?? "";
    },
  };
}

/** What a call comes to. The model is told what went wrong, since it may do better. */
async function result(tools: RunnableTool[], call: ChatToolCall): Promise<string> {
  const tool = tools.find((tool) => tool.function.name === call.function.name);
  if (!tool) return `Error: there is no tool ${call.function.name}; there are ${tools.map((t) => t.function.name).join(", ")}`;
  try {
    const found = await tool.run(JSON.parse(call.function.arguments) as never, call);
    return typeof found === "string" ? found : (JSON.stringify(found) ?? "");
  } catch (thrown) {
    return `Error: ${thrown instanceof Error ? thrown.message : String(thrown)}`;
  }
}

// What pages pass to the Prompt API: conversions as in Web IDL, then the specification's checks.

import type { ChatRequest } from "./chat.js";
import type {
  LanguageModelContentType,
  LanguageModelCoreOptions,
  LanguageModelExpected,
  LanguageModelParams,
  LanguageModelPromptOptions,
  LanguageModelRole,
  LanguageModelSamplingMode,
} from "./prompt-types.js";

/** A message in one piece. */
export interface Turn {
  role: LanguageModelRole;
  content: string;
  prefix: boolean;
}

interface Part {
  type: LanguageModelContentType;
  value: unknown;
}

/** A message after the conversion. */
export interface GivenMessage {
  role: LanguageModelRole;
  content: Part[];
  prefix: boolean;
}

const ROLES = ["system", "user", "assistant"] as const;
const TYPES = ["text", "image", "audio", "tool-call", "tool-response"] as const;

export const PARAMS: LanguageModelParams = { defaultTopK: 20, maxTopK: 128, defaultTemperature: 0.7, maxTemperature: 2 };

const MODES: Record<LanguageModelSamplingMode, { temperature: number; topK: number }> = {
  "most-predictable": { temperature: 0, topK: 1 },
  predictable: { temperature: 0.3, topK: 10 },
  balanced: { temperature: PARAMS.defaultTemperature, topK: PARAMS.defaultTopK },
  creative: { temperature: 1, topK: 40 },
  "most-creative": { temperature: 1.3, topK: PARAMS.maxTopK },
};

export interface Sampling {
  temperature: number;
  topK: number;
  samplingMode: LanguageModelSamplingMode | undefined;
}

const unsupported = (message: string) => new DOMException(message, "NotSupportedError");

function oneOf<T extends string>(value: unknown, known: readonly T[], what: string): T {
  const text = String(value) as T;
  if (!known.includes(text)) throw new TypeError(`${what} is ${JSON.stringify(text)}; use ${known.join(", ")}`);
  return text;
}

function object(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null) throw new TypeError(`${what} is not an object`);
  return value as Record<string, unknown>;
}

const isIterable = (value: unknown): value is Iterable<unknown> =>
  typeof value === "object" && value !== null && Symbol.iterator in value;

/** The messages of an input. What is neither a list nor a string becomes a string. */
export function convert(input: unknown): GivenMessage[] {
  if (!isIterable(input)) return [{ role: "user", content: [{ type: "text", value: `${input}` }], prefix: false }];
  return Array.from(input, (given, i) => {
    const message = object(given, `message ${i}`);
    if (message.role === undefined) throw new TypeError(`message ${i} has no role`);
    if (message.content === undefined) throw new TypeError(`message ${i} has no content`);
    return {
      role: oneOf(message.role, ROLES, `the role of message ${i}`),
      content: isIterable(message.content)
        ? Array.from(message.content, (part) => partOf(part, i))
        : [{ type: "text" as const, value: `${message.content}` }],
      prefix: Boolean(message.prefix),
    };
  });
}

function partOf(given: unknown, i: number): Part {
  const { type, value } = object(given, `a part of message ${i}`);
  if (type === undefined || value === undefined) throw new TypeError(`a part of message ${i} needs a type and a value`);
  return { type: oneOf(type, TYPES, `the type of a part of message ${i}`), value };
}

/** The messages as text; `hasBegun` if the conversation has messages already. */
export function canonicalize(messages: readonly GivenMessage[], hasBegun: boolean): Turn[] {
  if (messages.length === 0) return [{ role: "user", content: "", prefix: false }];
  return messages.map(({ role, content, prefix }, i) => {
    if (prefix && (role !== "assistant" || i !== messages.length - 1)) {
      throw new DOMException("`prefix` is for a last message of the assistant", "SyntaxError");
    }
    if (role === "system" && (hasBegun || i > 0)) throw new TypeError("only the first message of a session can be the system's");
    const texts = content.map(({ type, value }) => {
      if (type !== "text") throw unsupported(`the model reads no content of the type ${type}`);
      if (typeof value !== "string") throw new TypeError("content of the type text must be a string");
      return value;
    });
    return { role, content: texts.join(""), prefix };
  });
}

/** Converts and checks options as far as that does not depend on the model. */
export function checkOptions(options: LanguageModelCoreOptions): void {
  for (const key of ["expectedInputs", "expectedOutputs"] as const) {
    for (const expected of options[key] ?? []) {
      oneOf(object(expected, `an item of ${key}`).type, TYPES, `a type of ${key}`);
      // Throws a RangeError for what is not a language tag.
      Intl.getCanonicalLocales(expected.languages);
    }
  }
  if (options.samplingMode === undefined) return;
  oneOf(options.samplingMode, Object.keys(MODES), "samplingMode");
  if (options.temperature !== undefined || options.topK !== undefined) {
    throw new TypeError("`samplingMode` cannot be combined with `temperature` or `topK`");
  }
}

/** Why no model could do what is expected; undefined if one can. */
export function whyUnsupported(options: LanguageModelCoreOptions): string | undefined {
  const isOther = ({ type }: LanguageModelExpected) => type !== "text";
  const other = options.expectedInputs?.find(isOther) ?? options.expectedOutputs?.find(isOther);
  if (other) return `content of the type ${other.type} is not supported`;
  return [...(options.tools ?? [])].length > 0 ? "`tools` are not supported" : undefined;
}

/** How tokens are chosen. */
export function samplingOf(options: LanguageModelCoreOptions): Sampling {
  const { samplingMode, temperature, topK } = options;
  if (temperature === undefined && topK === undefined) {
    const mode = samplingMode ?? "balanced";
    return { ...MODES[mode], samplingMode: mode };
  }
  const least = (name: string, value: number, min: number) => {
    if (!(Number(value) >= min)) throw new RangeError(`\`${name}\` is ${value}; it must be at least ${min}`);
    return Number(value);
  };
  return {
    temperature: Math.min(least("temperature", temperature ?? PARAMS.defaultTemperature, 0), PARAMS.maxTemperature),
    topK: Math.floor(Math.min(least("topK", topK ?? PARAMS.defaultTopK, 1), PARAMS.maxTopK)),
    samplingMode: undefined,
  };
}

/** What the answer must look like, as the field of a request that says so. */
export type Constraint = Pick<ChatRequest, "response_format" | "regex">;

/** A regular expression of JavaScript, which may match a part, as one that matches the whole answer. */
function wholeRegex({ source, flags }: RegExp): string {
  const [isBegun, isEnded] = [source.startsWith("^"), /(^|[^\\])(\\\\)*\$$/.test(source)];
  if (/[^uvgy]/.test(flags)) throw unsupported(`a \`responseConstraint\` with the flags "${flags}" is not supported`);
  // Without escapes, classes and groups, from the inside.
  let outer = source.replace(/\\./g, "").replace(/\[[^\]]*\]/g, "");
  for (let before = ""; before !== outer; ) [before, outer] = [outer, outer.replace(/\([^()]*\)/g, "")];
  if (outer.includes("|") && (isBegun || isEnded)) {
    throw unsupported("a `responseConstraint` with `|` beside `^` or `$` is not supported; put it into a group");
  }
  const any = "(.|\\n)*";
  return `${isBegun ? "" : any}(${source.slice(isBegun ? 1 : 0, isEnded ? -1 : undefined)})${isEnded ? "" : any}`;
}

export function responseFormat(options: LanguageModelPromptOptions): Constraint | undefined {
  const { responseConstraint: schema, omitResponseConstraintInput } = options;
  if (schema == null) {
    if (omitResponseConstraintInput) throw new TypeError("`omitResponseConstraintInput` needs a `responseConstraint`");
    return undefined;
  }
  if (typeof schema !== "object") throw new TypeError("`responseConstraint` must be a JSON schema or a RegExp");
  if (schema instanceof RegExp) return { regex: wholeRegex(schema) };
  try {
    // A copy: the page may change its own.
    const copy = JSON.parse(JSON.stringify(schema)) as Record<string, unknown>;
    return { response_format: { type: "json_schema", json_schema: { name: "response", schema: copy } } };
  } catch (thrown) {
    throw unsupported(`\`responseConstraint\` is not a JSON schema: ${(thrown as Error).message}`);
  }
}

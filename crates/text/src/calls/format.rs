//! How a model writes reasoning and calls, told by its chat template.

use super::body::Body;

/// Text between two marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marks {
    pub open: &'static str,
    pub close: &'static str,
}

const fn marks(open: &'static str, close: &'static str) -> Marks {
    Marks { open, close }
}

/// Between which marks models think.
const REASONING: [Marks; 7] = [
    marks("<think>", "</think>"),
    marks("[THINK]", "[/THINK]"),
    marks("<seed:think>", "</seed:think>"),
    marks("<mm:think>", "</mm:think>"),
    marks("<|START_THINKING|>", "<|END_THINKING|>"),
    marks("<|channel>thought\n", "<channel|>"),
    marks("<|inner_prefix|>", "<|inner_suffix|>"),
];

/// How calls are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Calls {
    /// What of it templates contain.
    sign: &'static str,
    /// What one or several calls are between. Without an end, they end where the next begins, or with the answer.
    pub marks: Marks,
    pub body: Body,
    /// One of a tool `$N` with the arguments `$A` in JSON, between the marks: the simplest form that `body` reads.
    written: &'static str,
}

const fn row(
    sign: &'static str,
    [open, close]: [&'static str; 2],
    body: Body,
    written: &'static str,
) -> Calls {
    Calls {
        sign,
        marks: marks(open, close),
        body,
        written,
    }
}

/// The first whose sign is in a template is its model's: those that are part of others come later.
const CALLS: [Calls; 24] = [
    row(
        "<｜tool▁calls▁begin｜>",
        ["<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"],
        Body::Named {
            before: &["<｜tool▁call▁begin｜>", "function<｜tool▁sep｜>"],
            between: &["\n```json\n", "<｜tool▁sep｜>"],
        },
        "<｜tool▁call▁begin｜>$N<｜tool▁sep｜>$A<｜tool▁call▁end｜>",
    ),
    row(
        "<|tool_calls_section_begin|>",
        ["<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"],
        Body::Named {
            before: &["<|tool_call_begin|>", "functions."],
            between: &["<|tool_call_argument_begin|>"],
        },
        "<|tool_call_begin|>functions.$N:0<|tool_call_argument_begin|>$A<|tool_call_end|>",
    ),
    row(
        "<|tool_call:args|>",
        ["<|tool_calls|>", "<|calls|>"],
        Body::Named {
            before: &["<|tool_call:begin|>", "<|tool_call:name|>"],
            between: &["<|tool_call:args|>"],
        },
        "<|tool_call:begin|>0<|tool_call:name|>$N<|tool_call:args|>$A<|tool_call:end|>",
    ),
    row(
        "dsml_token + 'function_calls>",
        ["<｜DSML｜function_calls>", "</｜DSML｜function_calls>"],
        Body::Tags,
        "\n<｜DSML｜invoke name=\"$N\">$A</｜DSML｜invoke>\n",
    ),
    row(
        "｜DSML｜",
        ["<｜DSML｜tool_calls>", "</｜DSML｜tool_calls>"],
        Body::Tags,
        "\n<｜DSML｜invoke name=\"$N\">$A</｜DSML｜invoke>\n",
    ),
    row(
        "<minimax:tool_call>",
        ["<minimax:tool_call>", "</minimax:tool_call>"],
        Body::Tags,
        "\n<invoke name=\"$N\">$A</invoke>\n",
    ),
    row(
        "<seed:tool_call>",
        ["<seed:tool_call>", "</seed:tool_call>"],
        Body::Tags,
        "\n<function=$N>\n$A\n</function>\n",
    ),
    row(
        "<tool_call|>",
        ["<|tool_call>", "<tool_call|>"],
        Body::Braces { quote: "<|\"|>" },
        "call:$N$A",
    ),
    row(
        "<start_function_call>",
        ["<start_function_call>", "<end_function_call>"],
        Body::Braces { quote: "<escape>" },
        "call:$N$A",
    ),
    row(
        "<|tool_call_start|>",
        ["<|tool_call_start|>", "<|tool_call_end|>"],
        Body::Python,
        "[{\"name\": \"$N\", \"arguments\": $A}]",
    ),
    row(
        "<|START_ACTION|>",
        ["<|START_ACTION|>", "<|END_ACTION|>"],
        Body::Json,
        "[{\"tool_call_id\": \"0\", \"tool_name\": \"$N\", \"parameters\": $A}]",
    ),
    row(
        "<TOOLCALL>",
        ["<TOOLCALL>", "</TOOLCALL>"],
        Body::Json,
        "[{\"name\": \"$N\", \"arguments\": $A}]",
    ),
    row(
        "<tool_calls>",
        ["<tool_calls>", "</tool_calls>"],
        Body::Json,
        "[{\"name\": \"$N\", \"arguments\": $A}]",
    ),
    row(
        "<|tools_prefix|>",
        ["<|tools_prefix|>", "<|tools_suffix|>"],
        Body::Json,
        "[{\"$N\": $A}]",
    ),
    row(
        "<|function_call|>",
        ["<|function_call|>", "<|message_sep|>"],
        Body::Json,
        "{\"name\": \"$N\", \"arguments\": $A}",
    ),
    row(
        "<arg_key>",
        ["<tool_call>", "</tool_call>"],
        Body::Keys,
        "\n{\"name\": \"$N\", \"arguments\": $A}\n",
    ),
    row(
        "<parameter=",
        ["<tool_call>", "</tool_call>"],
        Body::Tags,
        "\n<function=$N>\n$A\n</function>\n",
    ),
    row(
        "<function=",
        ["<function=", "</function>"],
        Body::Tags,
        "$N>$A",
    ),
    row(
        "<function name=",
        ["<function name=", "</function>"],
        Body::Tags,
        "\"$N\">$A",
    ),
    row(
        "[ARGS]",
        ["[TOOL_CALLS]", ""],
        Body::Named {
            before: &[],
            between: &["[ARGS]"],
        },
        "$N[ARGS]$A",
    ),
    row(
        "[TOOL_CALLS]",
        ["[TOOL_CALLS]", ""],
        Body::Json,
        "[{\"name\": \"$N\", \"arguments\": $A}]",
    ),
    row(
        "<tool_call>",
        ["<tool_call>", "</tool_call>"],
        Body::Json,
        "\n{\"name\": \"$N\", \"arguments\": $A}\n",
    ),
    row(
        "<|tool_call|>",
        ["<|tool_call|>", "<|/tool_call|>"],
        Body::Json,
        "[{\"name\": \"$N\", \"arguments\": $A}]",
    ),
    row(
        "functools[",
        ["functools", ""],
        Body::Json,
        "[{\"name\": \"$N\", \"arguments\": $A}]",
    ),
];

/// Hermes's, which many models have learned.
const HERMES: &str = "<tool_call>";

/// JSON that is the whole answer, as Llama's; what it writes for its own tools begins with a mark.
const BARE: Calls = row(
    "",
    ["<|python_tag|>", ""],
    Body::Json,
    "{\"name\": \"$N\", \"parameters\": $A}",
);

/// Harmony's, whose end ends the answer.
const IN_CHANNEL: Calls = row(
    "",
    ["<|channel|>", ""],
    Body::Json,
    "commentary to=functions.$N <|constrain|>json<|message|>$A",
);

/// How a call can be told from other text as it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallStart {
    /// By this mark.
    Mark(&'static str),
    /// It is the whole answer, as JSON that begins with the tool's name.
    Bare,
    /// It is a message in a channel of its own: <https://github.com/openai/harmony>.
    Channel,
}

/// How a model's answers are written.
///
/// ```
/// use serde_json::json;
/// use siskin_text::{AnswerFormat, AnswerParser, Part};
///
/// let format = AnswerFormat::of("… <think> … <tool_call> …");
/// let tools = [json!({"type": "function", "function": {"name": "add", "parameters": {}}})];
/// let mut parser = AnswerParser::new(&format, "", &tools);
/// let mut parts = parser.push("<think>Hm.</think>\n\n<tool_call>\n{\"name\": \"add\", \"argu");
/// parts.extend(parser.push("ments\": {\"a\": 1}}\n</tool_call>"));
/// parts.extend(parser.finish());
/// assert_eq!(parts[0], Part::Reasoning("Hm.".into()));
/// assert!(matches!(&parts[1], Part::Call(call) if call.name == "add" && call.arguments == "{\"a\":1}"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerFormat {
    pub(super) reasoning: Option<Marks>,
    pub(super) calls: Calls,
    /// Whether calls may be JSON that is the whole answer, without marks.
    is_bare: bool,
    /// Messages in channels: <https://github.com/openai/harmony>.
    pub(super) is_harmony: bool,
    /// Whether the template has tools and what belongs to them.
    pub(super) knows_tools: bool,
}

impl AnswerFormat {
    /// What a chat template says. If it does not know tools, they are described in the system message, and calls are
    /// written as Hermes does.
    pub fn of(template: &str) -> Self {
        let has = |sign: &str| template.contains(sign);
        let is_harmony = has("<|channel|>") && has("<|message|>");
        // Gemma's templates spell it with a line break.
        let reasoning = REASONING
            .into_iter()
            .find(|m| has(m.open) || has(m.close) || has(&m.open.replace('\n', "\\n")));
        let knows_tools = has("tools");
        let found = match is_harmony {
            true => Some(IN_CHANNEL),
            false => CALLS.into_iter().find(|c| match knows_tools {
                true => has(c.sign),
                false => c.sign == HERMES,
            }),
        };
        Self {
            reasoning: reasoning.filter(|_| !is_harmony),
            calls: found.unwrap_or(BARE),
            is_bare: found.is_none(),
            is_harmony,
            knows_tools,
        }
    }

    /// Texts that mark parts of an answer. Those that are special tokens must be shown in what is parsed.
    pub fn marks(&self) -> Vec<&'static str> {
        if self.is_harmony {
            return super::harmony::MARKS.into();
        }
        let mut all = vec![];
        for marks in self.reasoning.into_iter().chain([self.calls.marks]) {
            all.extend([marks.open.trim_end(), marks.close]);
        }
        all.extend(self.calls.body.marks());
        all.retain(|mark| !mark.is_empty());
        all
    }

    /// Whether the template has a place for tools.
    pub fn knows_tools(&self) -> bool {
        self.knows_tools
    }

    /// Whether an answer without tools is more than its text.
    pub fn has_reasoning(&self) -> bool {
        self.reasoning.is_some() || self.is_harmony
    }

    /// Whether an answer to a rendered prompt that is to be JSON has other parts before it: reasoning that the prompt has
    /// begun, or channels.
    pub fn reasons_before_json(&self, prompt: &str) -> bool {
        self.is_harmony || self.end_of_reasoning(prompt).is_some()
    }

    /// How a call can be told from other text as it begins.
    pub fn call_start(&self) -> CallStart {
        match (self.is_harmony, self.is_bare) {
            (true, _) => CallStart::Channel,
            (_, true) => CallStart::Bare,
            _ => CallStart::Mark(self.calls.marks.open),
        }
    }

    /// A call of a tool as text before and after its arguments, which are JSON.
    pub fn call(&self, tool: &str) -> [String; 2] {
        let Marks { open, close } = self.calls.marks;
        let written = self.calls.written.replace("$N", tool);
        let (before, after) = written.split_once("$A").unwrap_or((&written, ""));
        match self.is_bare {
            true => [before.into(), after.into()],
            false => [format!("{open}{before}"), format!("{after}{close}")],
        }
    }

    /// What reasoning stands between.
    pub fn reasoning_marks(&self) -> Option<[&'static str; 2]> {
        self.reasoning.map(|m| [m.open, m.close])
    }

    /// What ends the reasoning that a rendered prompt has begun.
    pub fn end_of_reasoning(&self, prompt: &str) -> Option<&'static str> {
        let marks = self.reasoning?;
        let has_begun = prompt.rfind(marks.open.trim_end()) > prompt.rfind(marks.close);
        has_begun.then_some(marks.close)
    }
}

//! Tools of the command line: commands that the model may call.

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use siskin_text::{ToolCall, is_tool_name};

use crate::args::ToolArgs;
use crate::command::{self, Ended};

/// A command that the model may call.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tool {
    name: String,
    description: Option<String>,
    /// A JSON schema of an object; without one, there are no arguments.
    #[serde(default)]
    parameters: Map<String, Value>,
    command: String,
}

/// All tools, and how they may be called.
#[derive(Debug)]
pub struct Tools {
    all: Vec<Tool>,
    /// Whether calls are run without asking.
    pub is_trusted: bool,
    /// The most rounds of calls of one answer.
    pub max_rounds: usize,
    timeout: Duration,
}

/// What a call has led to.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What the model is told.
    pub text: String,
    /// Whether the user has stopped it.
    pub is_stopped: bool,
}

impl Tools {
    /// # Errors
    /// If a tool cannot be read, or calls could not be confirmed.
    pub fn of(args: &ToolArgs) -> Result<Self> {
        let mut all: Vec<Tool> = vec![];
        for given in &args.tools {
            let tool = tool(given)?;
            let name = &tool.name;
            if !is_tool_name(name) {
                bail!(
                    "--tool: `{name}` is not a tool's name; use up to 64 letters, digits, _ and -"
                );
            }
            if all.iter().any(|other| other.name == *name) {
                bail!("--tool: there are two tools `{name}`");
            }
            all.push(tool);
        }
        if !all.is_empty() && !args.yes && !std::io::stdin().is_terminal() {
            bail!(
                "calls of tools cannot be confirmed without a terminal; use --yes to run all of them"
            );
        }
        Ok(Self {
            all,
            is_trusted: args.yes,
            max_rounds: args.max_rounds.into(),
            timeout: Duration::from_secs(args.tool_timeout.into()),
        })
    }

    /// As OpenAI's API describes them.
    pub fn described(&self) -> Vec<Value> {
        let described = self.all.iter().map(|tool| {
            let mut function = Map::new();
            function.insert("name".into(), tool.name.as_str().into());
            let description = tool.description.as_deref();
            function.extend(description.map(|d| ("description".into(), d.into())));
            let mut parameters = tool.parameters.clone();
            parameters.entry("type").or_insert("object".into());
            parameters.entry("properties").or_insert(json!({}));
            function.insert("parameters".into(), parameters.into());
            json!({"type": "function", "function": function})
        });
        described.collect()
    }

    pub fn has(&self, name: &str) -> bool {
        self.all.iter().any(|tool| tool.name == name)
    }

    /// Runs a call.
    pub fn run(&self, call: &ToolCall) -> Outcome {
        let Some(tool) = self.all.iter().find(|tool| tool.name == call.name) else {
            let names: Vec<&str> = self.all.iter().map(|tool| tool.name.as_str()).collect();
            let text = format!(
                "There is no tool `{}`; there are: {}.",
                call.name,
                names.join(", ")
            );
            return Outcome {
                text,
                is_stopped: false,
            };
        };
        match command::run(&tool.command, &call.arguments, self.timeout) {
            Ok(ran) => Outcome {
                text: ran.text,
                is_stopped: ran.ended == Ended::Stopped,
            },
            Err(e) => Outcome {
                text: format!("{e:#}"),
                is_stopped: false,
            },
        }
    }
}

/// `NAME=COMMAND`, or a file.
fn tool(given: &str) -> Result<Tool> {
    let path = Path::new(given);
    if path.extension().is_some_and(|e| e == "json") && path.exists() {
        let text = std::fs::read_to_string(path);
        let text = text.with_context(|| format!("cannot read {given}"))?;
        return serde_json::from_str(&text).with_context(|| format!("--tool {given}"));
    }
    let named = given
        .split_once('=')
        .filter(|(_, command)| !command.trim().is_empty());
    let Some((name, command)) = named else {
        bail!("--tool {given}: there is no such file; use NAME=COMMAND or a JSON file");
    };
    // A text is what small models can be expected to give.
    let input = json!({"input": {"type": "string", "description": "What the command is given."}});
    let parameters = json!({"type": "object", "properties": input, "required": ["input"]});
    Ok(Tool {
        name: name.into(),
        description: Some(format!("Runs the command: {command}")),
        parameters: parameters.as_object().cloned().unwrap_or_default(),
        command: command.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(tools: &[&str]) -> ToolArgs {
        ToolArgs {
            tools: tools.iter().map(|t| (*t).into()).collect(),
            yes: true,
            max_rounds: 8,
            tool_timeout: 20,
        }
    }

    #[test]
    fn commands_and_files_are_tools() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weather.json");
        let weather = json!({
            "name": "weather", "description": "The weather.", "command": "cat",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        });
        std::fs::write(&file, weather.to_string()).unwrap();
        let file = file.display().to_string();
        let tools = Tools::of(&args(&["echo=cat | tr a-z A-Z", &file])).unwrap();
        let described = tools.described();
        assert_eq!(
            described[0]["function"]["parameters"]["required"][0],
            "input"
        );
        assert_eq!(
            described[1]["function"]["parameters"],
            weather["parameters"]
        );
        let call = |name: &str, arguments: &str| {
            let call = ToolCall {
                name: name.into(),
                arguments: arguments.into(),
            };
            tools.run(&call).text
        };
        if cfg!(unix) {
            assert_eq!(call("echo", "{\"input\":\"hi\"}"), "{\"INPUT\":\"HI\"}");
            assert_eq!(
                call("weather", "{\"city\":\"Oslo\"}"),
                "{\"city\":\"Oslo\"}"
            );
        }
        assert_eq!(
            call("clock", "{}"),
            "There is no tool `clock`; there are: echo, weather."
        );
    }

    #[test]
    fn what_is_not_a_tool_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bad.json");
        std::fs::write(
            &file,
            "{\"name\": \"a\", \"command\": \"b\", \"colour\": 1}",
        )
        .unwrap();
        let file = file.display().to_string();
        for (given, wanted) in [
            (&["my tool=date"][..], "`my tool` is not a tool's name"),
            (&["=date"], "`` is not a tool's name"),
            (&["a=b", "a=c"], "there are two tools `a`"),
            (&["weather.json"], "there is no such file"),
            (&["a="], "use NAME=COMMAND"),
            (&[&file], "unknown field `colour`"),
        ] {
            let refused = format!("{:#}", Tools::of(&args(given)).unwrap_err());
            assert!(refused.contains(wanted), "{refused}");
        }
    }
}

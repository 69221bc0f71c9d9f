use clap::Args;

/// Commands that the model may call.
#[derive(Debug, Args)]
pub struct ToolArgs {
    /// A command that the model may call (can be repeated). The shell runs it with the call's arguments on its standard
    /// input, as a JSON object: of NAME=COMMAND {"input": TEXT}; a file has `name`, `description`, `parameters` (a JSON
    /// schema) and `command`. Each call is shown, and run if you confirm it
    #[arg(long = "tool", value_name = "NAME=COMMAND|FILE.json")]
    pub tools: Vec<String>,
    /// Run calls without asking
    #[arg(long, requires = "tools")]
    pub yes: bool,
    /// Rounds of calls after which the model must have answered
    #[arg(long, value_name = "N", default_value_t = 8, requires = "tools", value_parser = clap::value_parser!(u16).range(1..))]
    pub max_rounds: u16,
    /// Seconds after which a command is ended
    #[arg(long, value_name = "SECONDS", default_value_t = 60, requires = "tools", value_parser = clap::value_parser!(u32).range(1..))]
    pub tool_timeout: u32,
}

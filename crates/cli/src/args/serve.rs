use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

use super::DeviceArgs;

fn parse_named(s: &str) -> Result<(String, String), String> {
    let named = s
        .split_once('=')
        .filter(|(name, path)| !name.is_empty() && !path.is_empty());
    let (name, path) = named.ok_or("use NAME=DIR")?;
    Ok((name.into(), path.into()))
}

#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Models, as for the other commands; each stays loaded, and is served under its file's name
    #[arg(required_unless_present = "models_dir", value_name = "MODEL")]
    pub models: Vec<PathBuf>,
    /// A folder of GGUF files and model folders, each loaded when a request first names it
    #[arg(long = "models", value_name = "DIR")]
    pub models_dir: Option<PathBuf>,
    /// Seconds without a request after which a model of the folder is unloaded; 0 keeps it
    #[arg(
        long,
        default_value_t = 300,
        requires = "models_dir",
        value_name = "SECONDS"
    )]
    pub idle_unload: u64,
    /// Models of the folder that are loaded at once; the one that has been idle for longest makes room
    #[arg(long, default_value_t = 2, requires = "models_dir", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub max_loaded: u16,
    /// An adapter that requests can name in place of the model, which they share (can be repeated; needs a single MODEL)
    #[arg(long = "adapter", value_name = "NAME=DIR[:SCALE]", value_parser = parse_named)]
    pub adapters: Vec<(String, String)>,
    #[command(flatten)]
    pub on: DeviceArgs,
    /// The address to listen on; other than loopback needs an API key or --no-auth
    #[arg(long, default_value = "127.0.0.1")]
    pub host: IpAddr,
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// What clients must send as their API key [default: the variable SISKIN_API_KEY, if set]
    #[arg(long)]
    pub api_key: Option<String>,
    /// Serve everybody who reaches the address
    #[arg(long, conflicts_with = "api_key")]
    pub no_auth: bool,
    /// Requests of a model that run at once, each with a context of its own
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub parallel: u16,
    /// Further requests that may wait; those beyond are answered 429
    #[arg(long, default_value_t = 64)]
    pub max_waiting: usize,
    /// The most bytes of a request
    #[arg(long, default_value_t = 4 << 20)]
    pub max_body: usize,
    /// The origin whose pages may send requests, beside the server's own, such as https://example.com, or *
    #[arg(long)]
    pub cors: Option<String>,
    /// The folder of the page to serve at / [default: `page` beside the program, or a checkout's web/dist]
    #[arg(long, value_name = "DIR")]
    pub page: Option<PathBuf>,
}

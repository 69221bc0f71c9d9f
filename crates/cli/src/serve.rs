//! `siskin serve`.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use siskin_engine::Session;
use siskin_serve::{Content, OnDemand, ServeOptions};

use crate::args::ServeArgs;
use crate::models_folder::{ModelsFolder, model_name};
use crate::{open, page_folder, stop};

/// Where the API key is, other than on the command line, which other users of the machine can see.
const KEY_VARIABLE: &str = "SISKIN_API_KEY";

pub async fn serve(args: ServeArgs) -> Result<()> {
    stop::install()?;
    let api_key = match (&args.api_key, args.no_auth) {
        (Some(key), _) => Some(key.clone()),
        (None, true) => None,
        (None, false) => std::env::var(KEY_VARIABLE).ok(),
    };
    check_access(args.host, api_key.as_deref(), args.no_auth)?;
    let address = SocketAddr::new(args.host, args.port);
    // Before the models are loaded, which takes a while.
    let listener =
        TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    let address = listener.local_addr()?;
    let names = names(&args.models)?;
    if !args.adapters.is_empty() && names.len() != 1 {
        bail!("--adapter needs a single MODEL, to which the adapters belong");
    }
    let on_demand = on_demand(&args)?;
    let page = page_folder::find(args.page.as_deref())?;
    let mut models = vec![];
    for (path, name) in args.models.iter().zip(names) {
        let mut session = open::open_for(path, &args.on, args.parallel.into()).await?;
        report(&name, &session);
        set_adapters(&mut session, &name, &args.adapters).await?;
        models.push((name, session));
    }
    let options = ServeOptions {
        api_key,
        max_waiting: args.max_waiting,
        max_body: args.max_body,
        cors: args.cors,
        ..ServeOptions::default()
    };
    println!("listening on http://{address}/v1");
    if page.is_some() {
        eprintln!("the page is at http://{address}/");
    }
    let content = Content {
        models,
        on_demand,
        page,
    };
    siskin_serve::serve(listener, content, options, || stop::flow().is_break())?;
    Ok(())
}

/// Reads the adapters that the model's requests can name.
async fn set_adapters(
    session: &mut Session,
    model: &str,
    given: &[(String, String)],
) -> Result<()> {
    let mut adapters = vec![];
    for (name, path) in given {
        if name == model {
            bail!("--adapter {name}: this is the model's name; choose another");
        }
        let adapter = open::read_adapter(path, &session.model, &session.files().checkpoint)?;
        adapters.push((name.clone(), adapter));
    }
    if !adapters.is_empty() {
        session.set_adapters(adapters).await?;
    }
    Ok(())
}

/// Says on which device a model runs.
pub fn report(name: &str, session: &Session) {
    let device = session.device();
    eprintln!(
        "{name}: {}, profile {}; {} at once, {} tokens each",
        device.name(),
        device.profile(),
        session.sequences(),
        session.context()
    );
}

/// The models of the folder, if there is one.
fn on_demand(args: &ServeArgs) -> Result<Option<OnDemand>> {
    let Some(dir) = &args.models_dir else {
        return Ok(None);
    };
    let folder = ModelsFolder::open(dir, &args.on, args.parallel.into())?;
    let idle = Duration::from_secs(args.idle_unload);
    Ok(Some(OnDemand {
        library: Arc::new(folder),
        max_loaded: args.max_loaded.into(),
        idle: (!idle.is_zero()).then_some(idle),
    }))
}

/// The models' names: those of their files, which must differ.
fn names(models: &[PathBuf]) -> Result<Vec<String>> {
    let mut names = vec![];
    for model in models {
        let name = model_name(&open::resolve(model)?);
        if names.contains(&name) {
            bail!("two models are named `{name}`; rename one of the files");
        }
        names.push(name);
    }
    Ok(names)
}

fn check_access(host: IpAddr, api_key: Option<&str>, no_auth: bool) -> Result<()> {
    if api_key.is_some_and(str::is_empty) {
        bail!("the API key is empty");
    }
    if !host.is_loopback() && api_key.is_none() && !no_auth {
        bail!(
            "{host} can be reached from other machines: set {KEY_VARIABLE} or --api-key, or use --no-auth to serve everybody"
        );
    }
    Ok(())
}

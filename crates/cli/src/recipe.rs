//! The settings of `siskin train`: a TOML recipe, overridden by flags.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::ValueEnum;
use siskin_gpu::Profile;
use siskin_train::{TrainOptions, nearest};
use toml::{Table, Value};

use crate::args::{
    CacheArgs, DeviceArgs, DraftArg, ModelArgs, PrecisionArg, TrainArgs, parse_device,
};
use crate::rewards::Rewards;

/// What a recipe sets besides the training options.
pub struct Recipe {
    pub model: ModelArgs,
    pub data: PathBuf,
    /// What is held out, if it is a file of its own.
    pub validation_data: Option<PathBuf>,
    pub out: PathBuf,
    /// What answers are rewarded for, if the objective draws them.
    pub rewards: Rewards,
    pub options: TrainOptions,
}

/// As written in a recipe.
fn name<T: ValueEnum>(value: Option<T>) -> Option<Value> {
    Some(value?.to_possible_value()?.get_name().into())
}

const OWN_KEYS: [&str; 5] = ["model", "data", "validation_data", "out", "device"];
const LISTS: [&str; 2] = ["rewards", "reward_weights"];

impl Recipe {
    pub fn read(args: &TrainArgs) -> Result<Self> {
        let mut table = match &args.recipe {
            Some(path) => table(path)?,
            None => Table::new(),
        };
        let path = |p: &Option<PathBuf>| p.as_ref().map(|p| Value::from(p.display().to_string()));
        let count = |n: Option<usize>| n.map(|n| Value::from(n as i64));
        let number = |n: Option<f32>| n.map(|n| Value::from(f64::from(n)));
        let flags = [
            ("model", args.model.clone().map(Value::from)),
            ("data", path(&args.data)),
            ("validation_data", path(&args.validation_data)),
            ("out", path(&args.out)),
            ("device", args.device.clone().map(Value::from)),
            ("objective", name(args.objective)),
            ("beta", number(args.beta)),
            ("loss_type", name(args.loss_type)),
            ("label_smoothing", number(args.label_smoothing)),
            ("num_generations", count(args.num_generations)),
            ("max_completion_length", count(args.max_completion_length)),
            ("epochs", count(args.epochs)),
            ("steps", count(args.steps)),
            ("rank", count(args.rank)),
            ("use_dora", args.dora.then_some(Value::from(true))),
            ("optim", name(args.optim)),
            ("learning_rate", number(args.learning_rate)),
            ("batch_size", count(args.batch_size)),
            ("max_seq_len", count(args.max_seq_len)),
            ("chunk_overlap", count(args.chunk_overlap)),
            ("validation", number(args.validation)),
            ("seed", args.seed.map(|s| Value::from(s as i64))),
        ];
        for (key, value) in flags {
            table.extend(value.map(|v| (key.to_string(), v)));
        }
        // A flag's steps override a recipe's epochs, and vice versa.
        if args.epochs.is_some() {
            table.remove("steps");
        }
        // The same of what is held out.
        if args.validation.is_some() {
            table.remove("validation_data");
        }
        if args.validation_data.is_some() {
            table.remove("validation");
        }
        if !args.rewards.is_empty() {
            table.insert("rewards".into(), args.rewards.clone().into());
            table.remove("reward_weights");
        }
        Self::of(table, args.profile)
    }

    /// A recipe's file, of which these settings are replaced. What need not be named is not: the adapter's folder.
    pub fn of_file(path: &Path, replaced: &[(&str, &Path)]) -> Result<Self> {
        let mut table = table(path)?;
        for (key, value) in replaced {
            table.insert((*key).into(), value.display().to_string().into());
        }
        table.entry("out").or_insert_with(|| "adapter".into());
        Self::of(table, None)
    }

    fn of(mut table: Table, profile: Option<Profile>) -> Result<Self> {
        if table.contains_key("validation") && table.contains_key("validation_data") {
            bail!("the recipe has `validation` and `validation_data`; give one of them");
        }
        let rewards = rewards(&mut table)?;
        let mut own = |key: &str| match table.remove(key) {
            Some(Value::String(s)) => Ok(Some(s)),
            None => Ok(None),
            Some(other) => bail!(
                "`{key}` is a {}; it must be a string in quotes",
                other.type_str()
            ),
        };
        let [model, data, validation_data, out, device] = OWN_KEYS.map(&mut own);
        let needed = |v: Option<String>, key: &str| {
            v.with_context(|| format!("no {key}; use --{key}, or a recipe that sets it"))
        };
        let device = device?.unwrap_or_else(|| "auto".into());
        let options = options(table)?;
        check_rewards(&options, &rewards)?;
        Ok(Self {
            rewards,
            model: ModelArgs {
                model: needed(model?, "model")?.into(),
                on: DeviceArgs {
                    device: parse_device(&device).map_err(|e| anyhow!("device: {e}"))?,
                    profile,
                    ctx: None,
                    rope_scaling: None,
                    rope_factor: None,
                    rope_original_ctx: None,
                    cache: CacheArgs::default(),
                    precision: PrecisionArg::Fast,
                    draft: DraftArg::None,
                },
            },
            data: needed(data?, "data")?.into(),
            validation_data: validation_data?.map(PathBuf::from),
            out: needed(out?, "out")?.into(),
            options,
        })
    }
}

fn table(path: &Path) -> Result<Table> {
    let name = path.display();
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read the recipe {name}"))?;
    text.parse()
        .with_context(|| format!("the recipe {name} is not valid TOML"))
}

fn rewards(table: &mut Table) -> Result<Rewards> {
    let [specs, weights] = LISTS.map(|key| table.remove(key));
    let specs: Vec<String> = match specs {
        Some(specs) => specs
            .try_into()
            .context("`rewards` must be a list of texts, such as [\"json\"]")?,
        None => vec![],
    };
    let weights: Vec<f32> = match weights {
        Some(weights) => weights
            .try_into()
            .context("`reward_weights` must be a list of numbers")?,
        None => vec![],
    };
    Rewards::parse(&specs, &weights)
}

fn check_rewards(options: &TrainOptions, rewards: &Rewards) -> Result<()> {
    let objective = options.objective;
    match (objective.is_of_rewards(), rewards.is_empty()) {
        (true, true) => bail!(
            "the objective {} needs a reward; use --reward, or a recipe with `rewards`",
            objective.name()
        ),
        (false, false) => bail!(
            "rewards are for the objectives grpo and rloo, and the objective is {}",
            objective.name()
        ),
        _ => Ok(()),
    }
}

fn options(table: Table) -> Result<TrainOptions> {
    let known = serde_json::to_value(TrainOptions::default())?;
    let known: Vec<&str> = known
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, _)| k.as_str())
        .collect();
    let names = known.iter().copied().chain(OWN_KEYS).chain(LISTS);
    let names: Vec<&str> = names.collect();
    if let Some(wrong) = table.keys().find(|k| !known.contains(&k.as_str())) {
        match nearest(wrong, &names) {
            Some(right) => {
                bail!("the recipe has an unknown key `{wrong}`; did you mean `{right}`?")
            }
            None => bail!(
                "the recipe has an unknown key `{wrong}`; known keys are {}",
                names.join(", ")
            ),
        }
    }
    let options: TrainOptions = table.try_into().context("the recipe")?;
    options.check()?;
    Ok(options)
}

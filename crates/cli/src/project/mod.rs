//! `siskin recipe` and `siskin check-recipe`: a recipe as a project of another tool, and the proof that it trains the same.

mod axolotl;
mod base;
mod check;
mod data;
mod launch;
mod llama_factory;
mod settings;
mod small_model;
mod yaml;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::json;
use siskin_engine::ModelFiles;
use siskin_train::{Item, Prepared, Record, TrainOptions, epoch_order};

pub use check::check;

use crate::args::{RecipeArgs, ToolArg};
use crate::recipe::Recipe;
use crate::train::{in_file, read_data, tell_bad};
use crate::{open, output};
use base::Base;

/// Where the recipe and its data are in the project, for `check-recipe`.
const OWN: &str = "siskin";
const OWN_RECIPE: &str = "siskin/recipe.toml";
const OWN_PROJECT: &str = "siskin/project.json";

/// What a project is written from.
pub struct Plan<'a> {
    tool: ToolArg,
    base: Base,
    prepared: &'a Prepared,
    /// With the values that apply.
    options: TrainOptions,
}

impl Plan<'_> {
    /// As on the command line.
    fn tool_name(&self) -> String {
        let value = self.tool.to_possible_value();
        value.map_or_else(String::new, |v| v.get_name().into())
    }

    fn eval_steps(&self) -> Option<usize> {
        let every = self.options.eval_every;
        let every = every.unwrap_or_else(|| self.prepared.steps_per_epoch());
        (!self.prepared.held_out.is_empty()).then_some(every)
    }

    /// A checkpoint is kept wherever a score is, so that the best one can be.
    fn save_steps(&self) -> usize {
        self.eval_steps()
            .unwrap_or_else(|| self.prepared.steps_per_epoch())
    }

    fn epochs(&self) -> usize {
        self.prepared
            .steps()
            .div_ceil(self.prepared.steps_per_epoch())
    }

    /// In the order of the first epoch.
    fn examples(&self) -> impl Iterator<Item = &Item> {
        let order = self.order(0).into_iter();
        order.map(|i| &self.prepared.examples[i])
    }

    /// The places of an epoch's examples, from 0.
    fn order(&self, epoch: usize) -> Vec<usize> {
        epoch_order(self.prepared.examples.len(), self.options.seed, epoch)
    }

    /// The same for each epoch, as lines of the data, which are in the order of the first.
    fn orders(&self) -> Vec<Vec<usize>> {
        let first = self.order(0);
        let mut line = vec![0; first.len()];
        for (at, place) in first.iter().enumerate() {
            line[*place] = at;
        }
        let epochs = (0..self.epochs()).map(|e| self.order(e));
        epochs
            .map(|order| order.into_iter().map(|place| line[place]).collect())
            .collect()
    }

    fn files(&self) -> Result<BTreeMap<&'static str, String>> {
        let kind = self.options.objective.data();
        let lines = |items: &mut dyn Iterator<Item = &Item>| data::lines(self.tool, kind, items);
        let mut files = BTreeMap::new();
        match self.tool {
            ToolArg::Trl | ToolArg::Unsloth => {
                let config = settings::config(self)?;
                files.insert("config.json", serde_json::to_string_pretty(&config)? + "\n");
                files.insert("order.json", json!(self.orders()).to_string() + "\n");
                files.insert("train.py", include_str!("files/train.py").into());
                let objective = settings::objective_file(self.options.objective)?;
                files.insert("objective.py", objective.into());
                let model = match self.tool {
                    ToolArg::Unsloth => include_str!("files/model_unsloth.py"),
                    _ => include_str!("files/model_trl.py"),
                };
                files.insert("model.py", model.into());
            }
            ToolArg::Axolotl => _ = files.insert("config.yaml", axolotl::config(self)?),
            ToolArg::LlamaFactory => {
                files.insert("config.yaml", llama_factory::config(self)?);
                files.insert("prepare.py", include_str!("files/prepare.py").into());
            }
        }
        files.insert("data.jsonl", lines(&mut self.examples()));
        if self.eval_steps().is_some() {
            files.insert(
                "validation.jsonl",
                lines(&mut self.prepared.held_out.iter()),
            );
        }
        launch::add(self, &mut files);
        Ok(files)
    }
}

/// A recipe's examples.
struct Examples {
    records: Vec<Record>,
    validation: Vec<Record>,
}

impl Examples {
    fn read(recipe: &Recipe, skip_bad: bool) -> Result<Self> {
        let validation = recipe.validation_data.as_deref();
        let read = |path: &Path| read_data(path, skip_bad);
        Ok(Self {
            records: read(&recipe.data)?,
            validation: validation.map(read).transpose()?.unwrap_or_default(),
        })
    }

    /// As the objective learns from them, with the model's tokenizer.
    fn prepare(&self, files: &ModelFiles, recipe: &Recipe, skip_bad: bool) -> Result<Prepared> {
        let data = recipe.data.display().to_string();
        let context = files.model.dims().context_length;
        let (records, validation) = (&self.records, &self.validation);
        let options = recipe.options.clone();
        let prepared = Prepared::new(&files.text, context, records, validation, options);
        let prepared = prepared.map_err(|e| in_file(e, &data))?;
        tell_bad(&data, &prepared.unusable, skip_bad)?;
        if let Some(path) = &recipe.validation_data {
            let name = path.display().to_string();
            tell_bad(&name, &prepared.unusable_validation, skip_bad)?;
        }
        Ok(prepared)
    }
}

pub fn recipe(args: &RecipeArgs) -> Result<()> {
    output::check(&args.out, args.force)?;
    let recipe = Recipe::of_file(&args.recipe, &[])?;
    let path = open::resolve(&recipe.model.model)?;
    let model = ModelFiles::open(&path)?;
    settings::objective_file(recipe.options.objective)?;
    settings::check_known(&recipe.options)?;
    let examples = Examples::read(&recipe, args.skip_bad)?;
    let prepared = examples.prepare(&model, &recipe, args.skip_bad)?;
    let plan = Plan {
        tool: args.to,
        base: Base::of(&model, args.base.as_deref(), &prepared.options)?,
        options: prepared.options.resolved(prepared.steps()),
        prepared: &prepared,
    };
    let mut files = plan.files()?;
    let extension = |path: &Path| match path.extension() {
        Some(e) => format!(".{}", e.display()),
        None => String::new(),
    };
    let data = format!("examples{}", extension(&recipe.data));
    let held_out = recipe.validation_data.as_deref();
    let validation = held_out.map(|p| format!("validation{}", extension(p)));
    let own = json!({
        "tool": plan.tool_name(), "data": data, "validation_data": validation,
        "skip_bad": args.skip_bad,
    });
    files.insert(OWN_PROJECT, serde_json::to_string_pretty(&own)? + "\n");
    let mut copies = vec![(args.recipe.as_path(), OWN_RECIPE.to_string())];
    copies.push((&recipe.data, format!("{OWN}/{data}")));
    copies.extend(
        held_out
            .zip(validation)
            .map(|(from, to)| (from, format!("{OWN}/{to}"))),
    );
    write(&args.out, &files, &copies)?;
    let (learned, held_out) = (prepared.examples.len(), prepared.held_out.len());
    if args.json {
        let files: Vec<&&str> = files.keys().collect();
        let json = json!({
            "out": args.out, "tool": plan.tool_name(), "base_model": plan.base.name, "files": files,
            "examples": learned, "held_out": held_out, "steps": plan.options.steps,
        });
        println!("{json}");
    } else {
        eprintln!(
            "{learned} examples, {held_out} held out, {} steps of {} on {}",
            prepared.steps(),
            plan.options.objective.name(),
            plan.base.name
        );
        println!("{}", args.out.join("README.md").display());
    }
    Ok(())
}

fn write(
    out: &Path,
    files: &BTreeMap<&'static str, String>,
    copies: &[(&Path, String)],
) -> Result<()> {
    let of = |name: &str| {
        let path = out.join(name);
        let folder = path.parent().unwrap_or(out);
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        anyhow::Ok(path)
    };
    for (name, text) in files {
        output::whole(&of(name)?, |part| Ok(std::fs::write(part, text)?))?;
    }
    for (from, to) in copies {
        output::whole(&of(to)?, |part| {
            std::fs::write(part, std::fs::read(from)?)?;
            Ok(())
        })?;
    }
    Ok(())
}

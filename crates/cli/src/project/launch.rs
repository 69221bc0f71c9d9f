//! What a project has for people and schedulers: its README, requirements, and the files of its launch lines.

use std::collections::BTreeMap;

use super::Plan;
use crate::args::ToolArg;

/// Versions with which projects for TRL were run.
const TRL: &str = "torch==2.15.0\ntransformers==5.24.0\ntrl==1.16.0\npeft==0.21.2\naccelerate==1.15.0\ndatasets==5.2.0\n";
/// Unsloth's own upper limits.
const UNSLOTH: &str = "unsloth==2026.10.9\ntrl==1.15.0\ntransformers==5.17.0\n";
const AXOLOTL: &str = "axolotl==0.19.0\n";
const LLAMA_FACTORY: &str = "llamafactory==0.9.5\n";
const EIGHT_BITS: &str = "bitsandbytes==0.50.2\n";
const DEEPSPEED: &str = "deepspeed==0.19.8\n";
const RAY: &str = "ray[train]==2.60.0\n";

type Files = BTreeMap<&'static str, String>;

pub fn add(plan: &Plan<'_>, files: &mut Files) {
    let mut add = |name, text: &str| _ = files.insert(name, text.into());
    let (start, several) = match plan.tool {
        ToolArg::Trl => {
            add("ray_train.py", include_str!("files/ray_train.py"));
            (
                "accelerate launch --config_file accelerate/fsdp.yaml",
                "train.py --resume",
            )
        }
        ToolArg::Unsloth => ("python", "train.py --resume"),
        ToolArg::Axolotl => ("accelerate launch", "-m axolotl.cli.train config.fsdp.yaml"),
        ToolArg::LlamaFactory => {
            add("train.py", include_str!("files/train_llama_factory.py"));
            add("deepspeed.json", include_str!("files/deepspeed.json"));
            (
                "accelerate launch --config_file accelerate/fsdp.yaml",
                "train.py config.yaml",
            )
        }
    };
    if matches!(plan.tool, ToolArg::Trl | ToolArg::LlamaFactory) {
        add("accelerate/fsdp.yaml", include_str!("files/fsdp.yaml"));
    }
    if plan.tool == ToolArg::Trl {
        add("accelerate/ddp.yaml", include_str!("files/ddp.yaml"));
        add(
            "accelerate/deepspeed.yaml",
            include_str!("files/deepspeed.yaml"),
        );
    }
    let slurm = match plan.tool {
        ToolArg::Unsloth => include_str!("files/slurm_one.sh").to_string(),
        _ => include_str!("files/slurm.sh")
            .replace("START", start)
            .replace("SCRIPT", several),
    };
    add("slurm.sh", &slurm);
    if plan.tool == ToolArg::Axolotl {
        let config = files["config.yaml"].clone();
        let fsdp = include_str!("files/axolotl_fsdp.yaml");
        files.insert("config.fsdp.yaml", format!("{config}\n{fsdp}"));
    }
    let (requirements, cluster) = requirements(plan);
    files.insert("requirements.txt", requirements);
    if !cluster.is_empty() {
        files.insert("requirements-cluster.txt", cluster);
    }
    files.insert("README.md", readme(plan));
}

fn requirements(plan: &Plan<'_>) -> (String, String) {
    let (mut base, cluster) = match plan.tool {
        ToolArg::Trl => (TRL.to_string(), format!("{DEEPSPEED}{RAY}")),
        ToolArg::Unsloth => (UNSLOTH.into(), String::new()),
        ToolArg::Axolotl => (AXOLOTL.into(), DEEPSPEED.into()),
        ToolArg::LlamaFactory => (LLAMA_FACTORY.into(), DEEPSPEED.into()),
    };
    let has_8bit = plan.options.optim == siskin_train::Optim::AdamW8bit;
    if plan.base.in_4bit || has_8bit {
        base += EIGHT_BITS;
    }
    (base, cluster)
}

fn readme(plan: &Plan<'_>) -> String {
    let (title, launch) = match plan.tool {
        ToolArg::Trl => ("TRL", include_str!("files/readme_trl.md")),
        ToolArg::Unsloth => ("Unsloth", include_str!("files/readme_unsloth.md")),
        ToolArg::Axolotl => ("Axolotl", include_str!("files/readme_axolotl.md")),
        ToolArg::LlamaFactory => (
            "LLaMA-Factory",
            include_str!("files/readme_llama_factory.md"),
        ),
    };
    let o = &plan.options;
    let head = format!(
        "# A recipe for {title}\n\n\
         Written by `siskin recipe`. It trains an adapter of rank {} for [{base}](https://huggingface.co/{base}) with the \
         objective {}: {} examples in {} steps of {}.\n\n\
         ```sh\npip install -r requirements.txt\n```\n\n",
        o.rank,
        o.objective.name(),
        plan.prepared.examples.len(),
        plan.prepared.steps(),
        o.batch_size,
        base = plan.base.name,
    );
    let precision = match plan.base.in_4bit {
        true => "The base model is loaded in NF4, as siskin has it.",
        false => {
            "The base model is loaded in 16 bits on a GPU, whatever siskin's copy is stored in."
        }
    };
    let notes = include_str!("files/readme_notes.md").replace("PRECISION", precision);
    let fits = o.batch_size;
    let launch = launch.replace("BATCH", &fits.to_string());
    format!("{head}{launch}\n{notes}")
}

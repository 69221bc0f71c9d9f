//! Trains a LoRA adapter on examples (JSONL, CSV, …), and saves it in PEFT's format:
//! `cargo run --release -p siskin-train --example finetune -- MODEL DATA OUT [DEVICE]`.

use std::error::Error;
use std::path::Path;

use siskin_engine::{OpenOptions, Session};
use siskin_train::{Dataset, TrainOptions, Trainer};

async fn finetune() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, data, out, device @ ..] = &args[..] else {
        return Err("which model, examples, and folder for the adapter?".into());
    };
    let options = OpenOptions::on(device.first().map_or("auto", String::as_str).parse()?);
    let mut session = Session::open(Path::new(model), &options, &mut |_| ()).await?;
    let examples = Dataset::from_bytes(data, &std::fs::read(data)?)?.records;
    let mut trainer = Trainer::new(&mut session, &examples, TrainOptions::default()).await?;
    while !trainer.is_finished() {
        let step = trainer.step(&mut session).await?;
        println!("step {}: loss {:.4}", step.step, step.loss);
    }
    if let Some(score) = trainer.score(&mut session).await? {
        println!("loss of held-out examples: {:.4}", score.loss);
    }
    std::fs::create_dir_all(out)?;
    for (name, bytes) in trainer.adapter(&mut session).await?.to_peft()? {
        std::fs::write(Path::new(out).join(name), bytes)?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    pollster::block_on(finetune())
}

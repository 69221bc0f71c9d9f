//! The likeliest next tokens, and for each layer: the token if the model ended there, and the one it attends to most (but
//! for the first): `cargo run --release -p siskin-train --example trace -- MODEL TEXT [DEVICE]`.

use std::error::Error;
use std::path::Path;

use siskin_engine::{LookOptions, OpenOptions, Session};

async fn trace() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (model, text) = args
        .next()
        .zip(args.next())
        .ok_or("which model and text?")?;
    let options = OpenOptions::on(args.next().as_deref().unwrap_or("auto").parse()?);
    let mut session = Session::open(Path::new(&model), &options, &mut |_| ()).await?;
    let tokens: Vec<u32> = session.text.encode(&text)?.iter().map(|t| t.id).collect();
    let what = LookOptions {
        top_k: 5,
        attention: true,
        logit_lens: true,
    };
    let look = session.look(&tokens, &what).await?;
    let last = tokens.len() - 1;
    for next in &look.top[last] {
        println!("{:5.1} % {:?}", 100.0 * next.logprob.exp(), next.text());
    }
    for (layer, lens) in look.lens.iter().enumerate() {
        let weights = look.mean_attention(layer, last);
        let most = (1..=last).max_by(|a, b| weights[*a].total_cmp(&weights[*b]));
        let key = session.text.decode(&[tokens[most.unwrap_or(0)]]);
        println!("layer {layer:2}: {:?}, from {key:?}", lens[last].text());
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    pollster::block_on(trace())
}

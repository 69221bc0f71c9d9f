//! A conversation in the terminal, a line for each message:
//! `cargo run --release -p siskin-train --example chat -- MODEL [DEVICE]`.

use std::error::Error;
use std::io::{Write, stdin, stdout};
use std::ops::ControlFlow;
use std::path::Path;

use siskin_engine::{GenerateOptions, Message, OpenOptions, Session};

async fn chat() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let model = args.next().ok_or("which model?")?;
    let options = OpenOptions::on(args.next().as_deref().unwrap_or("auto").parse()?);
    let mut session = Session::open(Path::new(&model), &options, &mut |_| ()).await?;
    let (mut messages, options) = (vec![], GenerateOptions::default());
    for line in stdin().lines() {
        messages.push(Message::new("user", &line?));
        // Of this, only the last message runs: the session has the others in its cache.
        let prompt = session.text.prompt(&messages, false)?;
        let answer = session.generate(&prompt, &options, async |event| {
            print!("{}", event.text());
            let _ = stdout().flush();
            ControlFlow::Continue(())
        });
        messages.push(Message::new("assistant", &answer.await?.text));
        println!();
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    pollster::block_on(chat())
}

//! Runs a command of the shell with an input, and returns what it says, within limits of length and time.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::stop;

/// The most bytes of an output.
const LIMIT: usize = 8 << 10;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Exited(ExitStatus),
    TooSlow,
    /// By the user.
    Stopped,
}

/// What a command has said.
#[derive(Debug)]
pub struct Ran {
    /// Its output; if it failed also its errors, and how it ended.
    pub text: String,
    pub ended: Ended,
}

#[derive(Debug, Default)]
struct Output {
    bytes: Vec<u8>,
    left_out: usize,
}

/// Reads to the end, so that the command does not wait, but keeps only what the limit allows.
fn read(mut from: impl Read + Send + 'static) -> (Arc<Mutex<Output>>, JoinHandle<()>) {
    let output = Arc::new(Mutex::new(Output::default()));
    let to = output.clone();
    let thread = spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            let Ok(mut to) = to.lock() else { return };
            let kept = n.min(LIMIT - to.bytes.len());
            to.bytes.extend(&buffer[..kept]);
            to.left_out += n - kept;
        }
    });
    (output, thread)
}

fn text_of(output: &Mutex<Output>) -> String {
    let Ok(output) = output.lock() else {
        return String::new();
    };
    let mut text = String::from_utf8_lossy(&output.bytes)
        .trim_end()
        .to_string();
    if output.left_out > 0 {
        text.push_str(&format!("\n[{} more bytes were left out]", output.left_out));
    }
    text
}

#[cfg(unix)]
fn shell(command: &str) -> Command {
    use std::os::unix::process::CommandExt;
    let mut shell = Command::new("sh");
    // A group of its own, so that all that it starts can be ended.
    shell.args(["-c", command]).process_group(0);
    shell
}

#[cfg(not(unix))]
fn shell(command: &str) -> Command {
    let mut shell = Command::new("cmd");
    shell.args(["/C", command]);
    shell
}

/// Ends a command and what it has started.
fn kill(child: &mut Child) {
    let id = child.id();
    let mut all = if cfg!(unix) {
        // The shell's own: there need not be a program of this name.
        let mut kill = Command::new("sh");
        kill.args(["-c", &format!("kill -s KILL -- -{id}")]);
        kill
    } else {
        let mut kill = Command::new("taskkill");
        kill.args(["/F", "/T", "/PID", &id.to_string()]);
        kill
    };
    let _ = all.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let _ = child.kill();
    let _ = child.wait();
}

/// Runs `command` with `input` on its standard input. It is ended after `timeout`, or if the user stops it.
pub fn run(command: &str, input: &str, timeout: Duration) -> Result<Ran> {
    let start = Instant::now();
    let mut shell = shell(command);
    let shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = shell
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start the shell")?;
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_string();
        // A command need not read it.
        spawn(move || drop(stdin.write_all(input.as_bytes())));
    }
    let out = child.stdout.take().map(read);
    let err = child.stderr.take().map(read);
    let ended = loop {
        let has_said_all = [&out, &err]
            .into_iter()
            .flatten()
            .all(|o| o.1.is_finished());
        if has_said_all && let Some(status) = child.try_wait()? {
            break Ended::Exited(status);
        }
        if stop::flow().is_break() {
            break Ended::Stopped;
        }
        if start.elapsed() > timeout {
            break Ended::TooSlow;
        }
        sleep(Duration::from_millis(5));
    };
    let [out, err] = [out, err].map(|o| o.map_or(String::new(), |o| text_of(&o.0)));
    let note = match ended {
        Ended::Exited(status) if status.success() => return Ok(Ran { text: out, ended }),
        Ended::Exited(status) => format!("[{status}]"),
        Ended::TooSlow => format!("[it was ended after {} seconds]", timeout.as_secs_f32()),
        Ended::Stopped => "[the user stopped it]".into(),
    };
    if !matches!(ended, Ended::Exited(_)) {
        kill(&mut child);
    }
    let lines = [out, err, note];
    let lines: Vec<String> = lines.into_iter().filter(|l| !l.is_empty()).collect();
    Ok(Ran {
        text: lines.join("\n"),
        ended,
    })
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn ran(command: &str, input: &str) -> String {
        run(command, input, Duration::from_secs(20)).unwrap().text
    }

    #[test]
    fn commands_read_their_input_and_fail_with_their_errors() {
        assert_eq!(ran("cat; echo lost >&2", "{\"a\": 1}"), "{\"a\": 1}");
        assert_eq!(
            ran("echo half; echo why >&2; exit 3", ""),
            "half\nwhy\n[exit status: 3]"
        );
        // One that does not read much.
        assert_eq!(ran("true", &"x".repeat(1 << 20)), "");
    }

    #[test]
    fn long_outputs_are_cut_and_slow_commands_ended() {
        let text = ran("yes | head -c 100000", "");
        assert!(text.len() < LIMIT + 50, "{}", text.len());
        assert!(
            text.ends_with("\n[91808 more bytes were left out]"),
            "{}",
            &text[LIMIT - 9..]
        );
        // What the shell has started ends with it, so that nobody holds its output.
        let start = Instant::now();
        let slow = run(
            "echo a; sleep 60 & sleep 60",
            "",
            Duration::from_millis(300),
        )
        .unwrap();
        assert_eq!(slow.ended, Ended::TooSlow);
        assert_eq!(slow.text, "a\n[it was ended after 0.3 seconds]");
        assert!(start.elapsed() < Duration::from_secs(20));
    }
}

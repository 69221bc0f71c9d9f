//! A program in a terminal, which `script` makes.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::spawn;
use std::time::Duration;

use siskin_tests::command::siskin;

pub struct Terminal {
    child: Child,
    seen: Receiver<u8>,
}

impl Terminal {
    pub fn of(args: &[&str]) -> Self {
        let program = siskin().get_program().to_string_lossy().into_owned();
        let words = std::iter::once(program.as_str()).chain(args.iter().copied());
        let command: Vec<String> = words.map(|word| format!("'{word}'")).collect();
        // A shell that waits for the program would be ended by the first Ctrl-C.
        let command = format!("exec {}", command.join(" "));
        let mut child = Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = child.stdout.take().unwrap();
        let (send, seen) = channel();
        spawn(move || {
            let mut byte = [0];
            while out.read_exact(&mut byte).is_ok() && send.send(byte[0]).is_ok() {}
        });
        Self { child, seen }
    }

    /// What comes up to the end of a text.
    pub fn until(&mut self, text: &str) -> String {
        let mut all = vec![];
        while !all.ends_with(text.as_bytes()) {
            match self.seen.recv_timeout(Duration::from_secs(60)) {
                Ok(byte) => all.push(byte),
                Err(e) => panic!("no {text:?}: {e}: {}", String::from_utf8_lossy(&all)),
            }
        }
        String::from_utf8_lossy(&all).into_owned()
    }

    pub fn enter(&mut self, keys: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for the program, which must end well. The pipe to `script` stays open until then, since `script`
    /// sends the program something of its own when it closes.
    pub fn ended(mut self) {
        let stdin = self.child.stdin.take();
        let status = self.child.wait().unwrap();
        drop(stdin);
        let rest: Vec<u8> = self.seen.iter().collect();
        let rest = String::from_utf8_lossy(&rest);
        assert!(status.success(), "{status}: {rest}");
    }
}

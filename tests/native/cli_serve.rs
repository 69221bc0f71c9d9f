//! `siskin serve` as a program.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use siskin_tests::command::{fails, siskin, tiny};
use siskin_tests::fixture;

struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(args: &[&str]) -> Self {
        let mut child = siskin()
            .args(["serve", "--port", "0", "--device", "cpu"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap();
        let address = address.strip_suffix("/v1").unwrap().to_owned();
        Self { child, address }
    }

    fn send(&self, head: &str, body: &str) -> TcpStream {
        let mut client = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        let request = format!(
            "{head} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        client.write_all(request.as_bytes()).unwrap();
        client
    }

    /// The body of an answer.
    fn ask(&self, head: &str, body: &str) -> String {
        let mut answer = String::new();
        self.send(head, body).read_to_string(&mut answer).unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.into()
    }

    #[cfg(unix)]
    fn interrupt(&self) {
        let pid = self.child.id().to_string();
        let kill = Command::new("kill").args(["-INT", &pid]).status();
        assert!(kill.unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[cfg(unix)]
fn it_ends_with_ctrl_c() {
    let mut server = Server::start(&[&tiny("llama")]);
    assert!(server.ask("GET /health", "").contains("\"ok\""));
    server.interrupt();
    assert!(server.child.wait().unwrap().success());
}

#[test]
fn the_models_of_a_folder_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::copy(fixture("tiny/qwen3/model.gguf"), at("qwen.3.gguf")).unwrap();
    fs::create_dir(at("llama")).unwrap();
    for file in [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ] {
        fs::copy(fixture("tiny/llama").join(file), at("llama").join(file)).unwrap();
    }
    // A part of another file, and what is no model.
    for name in [".hidden.gguf", "big-00002-of-00003.gguf", "notes.txt"] {
        fs::write(at(name), "x").unwrap();
    }
    fs::write(at("bad.gguf"), "nonsense").unwrap();
    fs::create_dir(at("empty")).unwrap();
    let folder = dir.path().display().to_string();
    let server = Server::start(&[&tiny("qwen2"), "--models", &folder]);
    let names = || -> Vec<String> {
        let list: Value = serde_json::from_str(&server.ask("GET /v1/models", "")).unwrap();
        let names = list["data"].as_array().unwrap().iter();
        names
            .map(|m| m["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(), ["qwen2", "bad", "llama", "qwen.3"]);
    let complete = |model: &str| {
        let body = format!("{{\"model\": \"{model}\", \"prompt\": [1, 2], \"max_tokens\": 2}}");
        server.ask("POST /v1/completions", &body)
    };
    for model in ["qwen2", "llama", "qwen.3"] {
        assert!(complete(model).contains("text_completion"), "{model}");
    }
    assert!(complete("bad").contains("bad.gguf is not a GGUF file"));
    // What is added while it runs.
    fs::copy(fixture("tiny/qwen3/model.gguf"), at("new.gguf")).unwrap();
    assert!(names().contains(&"new".to_owned()));
    assert!(complete("new").contains("text_completion"));
    fs::create_dir(at("new")).unwrap();
    fs::write(at("new/config.json"), "{}").unwrap();
    assert_eq!(names().iter().filter(|name| *name == "new").count(), 1);
}

#[test]
#[cfg(unix)]
fn ctrl_c_ends_the_loading_of_a_model() {
    let mut server = Server::start(&["--models", "../models"]);
    let name = "smollm2-135m-instruct";
    let body = format!("{{\"model\": \"{name}\", \"prompt\": \"x\", \"max_tokens\": 1}}");
    let mut client = server.send("POST /v1/completions", &body);
    while !server.ask("GET /v1/models", "").contains("\"loading\"") {}
    server.interrupt();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("the server is stopping"), "{answer}");
    assert!(server.child.wait().unwrap().success());
}

#[test]
fn options_that_cannot_be_meant_are_refused() {
    for (args, wanted) in [
        (&["serve"][..], "MODEL"),
        (&["serve", "x", "--idle-unload", "5"], "--models"),
        (&["serve", "x", "--max-loaded", "5"], "--models"),
        (
            &["serve", "--models", ".", "--max-loaded", "0"],
            "--max-loaded",
        ),
        (
            &["serve", "--models", "nowhere", "--port", "0"],
            "cannot read the folder nowhere",
        ),
        (
            &["serve", "--models", ".", "--page", ".", "--port", "0"],
            "no index.html",
        ),
    ] {
        let error = fails(args);
        assert!(error.contains(wanted), "{args:?}: {error}");
    }
}

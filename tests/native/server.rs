//! A server in this process, asked by plain HTTP.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use pollster::block_on;
use serde_json::Value;
use siskin_engine::{DeviceRequest, OpenOptions, Session};
use siskin_serve::{Content, ServeOptions, serve};
use siskin_tests::fixture;

pub fn session(model: &str, sequences: usize) -> Session {
    let options = OpenOptions {
        device: DeviceRequest::Cpu,
        context: Some(64),
        sequences,
        ..OpenOptions::default()
    };
    block_on(Session::open(&fixture(model), &options, &mut |_| ())).unwrap()
}

pub struct Server {
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Server {
    pub fn start(sequences: usize, options: ServeOptions) -> Self {
        let content = Content {
            models: vec![("llama".into(), session("tiny/llama", sequences))],
            ..Content::default()
        };
        Self::with(content, options)
    }

    pub fn with(content: Content, options: ServeOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let is_stopped = stop.clone();
        let is_stopped = move || is_stopped.load(Ordering::SeqCst);
        let thread = spawn(move || serve(listener, content, options, is_stopped));
        let thread = Some(thread);
        Self {
            address,
            stop,
            thread,
        }
    }

    /// Tells it to stop; the thread ends when it has.
    pub fn stop(&mut self) -> JoinHandle<std::io::Result<()>> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap()
    }

    /// Sends a request, and leaves its answer to be read.
    pub fn send(&self, head: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let length = body.len();
        let request = format!(
            "{head}\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        // A server that refuses a body may close before it has read all of it.
        let _ = stream.write_all(request.as_bytes());
        stream
    }

    /// Status, headers and body.
    pub fn ask(&self, head: &str, body: &str) -> (u16, String, String) {
        read(self.send(head, body))
    }

    /// The same for a request as it is.
    pub fn raw(&self, request: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        read(stream)
    }

    pub fn post(&self, path: &str, body: &Value) -> Value {
        let (status, _, text) = self.ask(&format!("POST {path} HTTP/1.1"), &body.to_string());
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The data of a stream's events.
    pub fn stream(&self, path: &str, body: &Value) -> Vec<String> {
        let (status, head, text) = self.ask(&format!("POST {path} HTTP/1.1"), &body.to_string());
        assert_eq!(status, 200, "{text}");
        assert!(head.contains("text/event-stream"), "{head}");
        let data = text.lines().filter_map(|l| l.strip_prefix("data: "));
        data.map(String::from).collect()
    }

    /// The error with which a request is refused.
    pub fn refused(&self, path: &str, body: &Value) -> (u16, Value) {
        let (status, _, text) = self.ask(&format!("POST {path} HTTP/1.1"), &body.to_string());
        let json: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
        (status, json["error"].clone())
    }

    pub fn metric(&self, name: &str) -> f64 {
        let (_, _, text) = self.ask("GET /metrics HTTP/1.1", "");
        let line = text.lines().find(|l| l.starts_with(name));
        let value = line.and_then(|l| l.rsplit(' ').next()?.parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in {text}"))
    }
}

fn read(mut stream: TcpStream) -> (u16, String, String) {
    let mut all = vec![];
    let _ = stream.read_to_end(&mut all);
    let all = String::from_utf8(all).unwrap();
    let (head, body) = all.split_once("\r\n\r\n").unwrap_or((&all, ""));
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
    (status.unwrap_or(0), head.to_lowercase(), body.into())
}

/// Waits until it holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what}");
        sleep(Duration::from_millis(20));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(matches!(ended, None | Some(Ok(Ok(())))) || std::thread::panicking());
    }
}

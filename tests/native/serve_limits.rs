//! Clients that send or read slowly, too much, or nothing.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use siskin_serve::{Content, ServeOptions};

use crate::server::{Server, eventually, session};

const SOON: Duration = Duration::from_millis(300);

fn impatient() -> ServeOptions {
    ServeOptions {
        client_timeout: SOON,
        ..ServeOptions::default()
    }
}

/// What the server sends until it closes the connection, and how long it takes.
fn until_closed(mut client: TcpStream) -> (String, Duration) {
    let begin = Instant::now();
    client
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut all = vec![];
    if let Err(e) = client.read_to_end(&mut all) {
        assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset, "{e}");
    }
    (String::from_utf8_lossy(&all).into_owned(), begin.elapsed())
}

#[test]
fn headers_and_bodies_that_do_not_end_are_not_waited_for() {
    let server = Server::start(1, impatient());
    let begun = |text: &str| {
        let mut client = TcpStream::connect(server.address).unwrap();
        client.write_all(text.as_bytes()).unwrap();
        client
    };
    let post = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n";
    // Nothing at all, a line, a header that goes on; the connection of an answered request.
    let silent = ["", "GET /health HT", "GET /health HTTP/1.1\r\nX: "].map(begun);
    let idle = begun("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let part = begun(&format!("{post}Content-Length: 50\r\n\r\n{{"));
    let chunk = begun(&format!(
        "{post}Transfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n"
    ));
    // A body that has arrived is answered, also where the client says that it sends no more.
    let half = begun("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    half.shutdown(Shutdown::Write).unwrap();
    for client in silent {
        let (_, took) = until_closed(client);
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
    assert!(until_closed(idle).0.contains("200 OK"));
    for client in [part, chunk] {
        let (answer, took) = until_closed(client);
        assert!(answer.contains("408"), "{answer}");
        assert!(answer.contains("did not arrive"), "{answer}");
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
    until_closed(half);
    let body = json!({"prompt": [1, 2], "max_tokens": 2});
    assert_eq!(
        server.post("/v1/completions", &body)["object"],
        "text_completion"
    );
}

#[test]
fn floods_are_cut_off() {
    let options = ServeOptions {
        max_body: 1000,
        ..ServeOptions::default()
    };
    let server = Server::start(1, options);
    let flood = |head: &str, part: &str| {
        let mut client = TcpStream::connect(server.address).unwrap();
        client.write_all(head.as_bytes()).unwrap();
        // More than the connection itself holds.
        let sent = (0..200_000).take_while(|_| client.write_all(part.as_bytes()).is_ok());
        let n = sent.count();
        assert!(n < 200_000, "all of it was read");
        let mut answer = vec![];
        let _ = client.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    let line = format!("X: {}\r\n", "x".repeat(100));
    flood("GET /health HTTP/1.1\r\n", &line);
    flood("GET /", &"x".repeat(100));
    let chunk = format!("64\r\n{}\r\n", "x".repeat(100));
    flood(
        "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
        &chunk,
    );
    let body = json!({"content": "Hello"});
    assert!(server.post("/tokenize", &body)["tokens"].is_array());
}

/// A model whose name is so long that a client that does not read soon fills its connection.
fn verbose(options: ServeOptions) -> Server {
    let content = Content {
        models: vec![("l".repeat(8000), session("tiny/llama", 8))],
        ..Content::default()
    };
    Server::with(content, options)
}

fn stream(n: usize) -> String {
    json!({"prompt": "0 times", "n": n, "stream": true}).to_string()
}

#[test]
fn a_client_that_does_not_read_is_let_go() {
    let server = verbose(impatient());
    let client = server.send("POST /v1/completions HTTP/1.1", &stream(32));
    std::thread::sleep(4 * SOON);
    let (answer, _) = until_closed(client);
    assert!(!answer.contains("[DONE]"));
    let body = json!({"prompt": [1, 2], "max_tokens": 2});
    assert_eq!(
        server.post("/v1/completions", &body)["object"],
        "text_completion"
    );
}

#[test]
fn what_a_client_leaves_unread_is_bounded() {
    let options = ServeOptions {
        max_waiting: 256,
        ..ServeOptions::default()
    };
    let server = verbose(options);
    let client = server.send("POST /v1/completions HTTP/1.1", &stream(128));
    let requests = |reason: &str| -> u64 {
        let (_, _, text) = server.ask("GET /metrics HTTP/1.1", "");
        let line = text
            .lines()
            .find(|l| l.starts_with("siskin_requests_total") && l.contains(reason));
        line.and_then(|l| l.rsplit(' ').next()?.parse().ok())
            .unwrap()
    };
    eventually("it is answered to the end", || requests("cancelled") > 0);
    eventually("the others go on", || {
        server.metric("siskin_requests_running") == 0.0
    });
    // All that was sent is whole, and then the client is told.
    let (answer, _) = until_closed(client);
    let data: Vec<&str> = answer
        .lines()
        .filter_map(|l| l.strip_prefix("data: "))
        .collect();
    assert_eq!(data[data.len() - 1], "[DONE]");
    let error: Value = serde_json::from_str(data[data.len() - 2]).unwrap();
    assert_eq!(error["error"]["message"], "the client reads too slowly");
    assert!(requests("length") < 128);
}

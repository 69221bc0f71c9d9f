//! The page that the server serves, and which pages may use it.

use std::collections::HashMap;

use siskin_serve::{Content, Page, ServeOptions};

use crate::server::{Server, session};

fn start(options: ServeOptions) -> Server {
    let files: HashMap<&str, &str> = HashMap::from([
        ("index.html", "<!doctype html>"),
        ("assets/index.js", "1"),
        ("assets/siskin.wasm", "2"),
        ("icon.svg", "3"),
        ("sw", "4"),
    ]);
    let page = Page::new(move |path| Some(files.get(path)?.as_bytes().to_vec()));
    let content = Content {
        models: vec![("llama".into(), session("tiny/llama", 1))],
        page: Some(page),
        ..Content::default()
    };
    Server::with(content, options)
}

#[test]
fn the_page_is_public_and_what_it_asks_for_is_not() {
    let options = ServeOptions {
        api_key: Some("secret".into()),
        ..ServeOptions::default()
    };
    let server = start(options);
    for (path, kind, wanted) in [
        ("/", "text/html; charset=utf-8", "<!doctype html>"),
        ("/index.html", "text/html; charset=utf-8", "<!doctype html>"),
        ("/assets/index.js", "text/javascript; charset=utf-8", "1"),
        ("/assets/siskin.wasm", "application/wasm", "2"),
        ("/icon.svg?v=1", "image/svg+xml", "3"),
        ("/sw", "application/octet-stream", "4"),
    ] {
        let (status, head, body) = server.ask(&format!("GET {path} HTTP/1.1"), "");
        assert_eq!((status, &*body), (200, wanted), "{path}");
        assert!(
            head.contains(&format!("content-type: {kind}\r\n")),
            "{head}"
        );
        assert!(head.contains("x-content-type-options: nosniff"), "{head}");
        assert!(
            head.contains("content-security-policy: default-src 'self'"),
            "{head}"
        );
    }
    for path in [
        "/assets",
        "/assets/",
        "/../Cargo.toml",
        "/%2e%2e/Cargo.toml",
        "//etc/passwd",
        "/v1/x",
    ] {
        let (status, _, body) = server.ask(&format!("GET {path} HTTP/1.1"), "");
        assert_eq!(status, 404, "{path}");
        assert!(body.contains("is not supported"), "{body}");
    }
    assert_eq!(server.ask("POST / HTTP/1.1", "").0, 404);
    assert_eq!(server.ask("POST /icon.svg HTTP/1.1", "").0, 404);
    assert_eq!(server.ask("GET /v1/models HTTP/1.1", "").0, 401);
    let without = Server::start(1, ServeOptions::default());
    let (status, _, body) = without.ask("GET / HTTP/1.1", "");
    assert_eq!(status, 200);
    assert!(
        body.contains("--page web/dist") && body.lines().count() == 1,
        "{body}"
    );
}

#[test]
fn the_server_s_own_page_may_use_it_and_others_may_not() {
    let server = start(ServeOptions::default());
    let port = server.address.port();
    // Without the header that `ask` adds.
    let ask = |host: &str, origin: Option<&str>| {
        let origin = origin
            .map(|o| format!("Origin: {o}\r\n"))
            .unwrap_or_default();
        let head =
            format!("GET /v1/models HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{origin}\r\n");
        server.raw(&head)
    };
    for name in ["localhost", "127.0.0.1", "[::1]"] {
        let host = format!("{name}:{port}");
        assert_eq!(ask(&host, None).0, 200, "{host}");
        assert_eq!(ask(&host, Some(&format!("http://{host}"))).0, 200, "{host}");
        for other in [
            "http://localhost",
            "http://example.com",
            "null",
            "http://localhost:1",
        ] {
            let (status, _, body) = ask(&host, Some(other));
            assert_eq!(status, 403, "{other}");
            assert!(body.contains(&format!("--cors {other}")), "{body}");
        }
    }
    // A name of somebody else's that resolves to this machine.
    for origin in [None, Some("http://example.com:80")] {
        let (status, _, body) = ask("example.com:80", origin);
        assert_eq!(status, 403);
        assert!(body.contains("not this machine's own name"), "{body}");
    }
    // A key says who it is.
    let options = ServeOptions {
        api_key: Some("secret".into()),
        ..ServeOptions::default()
    };
    let server = start(options);
    let head = "GET /v1/models HTTP/1.1\r\nHost: example.com\r\nOrigin: https://example.com\r\nConnection: close\r\nAuthorization: Bearer secret\r\n\r\n";
    assert_eq!(server.raw(head).0, 200);
}

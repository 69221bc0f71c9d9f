//! Untrusted templates must not exhaust time, memory or stack.

use std::time::Duration;

use siskin_text::{ChatTemplate, Error, Message, RenderRequest};

/// What this thread has computed: other processes on a busy machine do not count.
#[cfg(unix)]
fn computed() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap()
}

#[cfg(not(unix))]
fn computed() -> Duration {
    static START: std::sync::LazyLock<std::time::Instant> =
        std::sync::LazyLock::new(std::time::Instant::now);
    START.elapsed()
}

/// Renders on a thread with the stack size of a page; and for how long it computed.
fn timed(source: String) -> (Result<String, Error>, Duration) {
    let run = move || {
        let start = computed();
        let messages = [Message::new("user", "hi")];
        let request = RenderRequest {
            messages: &messages,
            ..RenderRequest::default()
        };
        let template = ChatTemplate::new(&source, Default::default());
        let result = template.and_then(|t| t.render(&request).map(|r| r.text));
        (result, computed().saturating_sub(start))
    };
    let thread = std::thread::Builder::new().stack_size(1 << 20);
    thread.spawn(run).unwrap().join().unwrap()
}

fn render(source: String) -> Result<String, Error> {
    timed(source).0
}

#[track_caller]
fn assert_limited(source: &str) {
    let (result, time) = timed(source.into());
    let shown: String = source.chars().take(60).collect();
    assert!(time < Duration::from_secs(5), "{shown}: {time:?}");
    match result {
        Err(Error::TemplateLimit(_)) => {}
        other => panic!("{shown}: {:.200}", format!("{other:?}")),
    }
}

#[test]
fn time_is_limited() {
    let range = "{% for a in range(99999) %}";
    assert_limited(&format!("{0}{0}{0}{1}{1}{1}", range, "{% endfor %}"));
    assert_limited(&format!("{0}{0}{{{{ a }}}}{1}{1}", range, "{% endfor %}"));
    assert_limited("{% set l = range(99999)|list %}{% for a in l %}{{ a in l }}{% endfor %}");
    assert_limited(
        "{% set x = 'a' * 10000000 %}{% for a in range(9999) %}{{ x|length }}{% endfor %}",
    );
    assert_limited(
        "{% set x = 'a' * 9000000 %}{% for a in range(9999) %}{{ 'b' in x }}{% endfor %}",
    );
    assert_limited(
        "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(99) %}{% set ns.a = [ns.a, ns.a] %}\
         {% set ns.b = [ns.b, ns.b] %}{% endfor %}{{ ns.a == ns.b }}",
    );
}

#[test]
fn memory_is_limited() {
    assert_limited("{{ ['a'] * 10000000000 }}");
    assert_limited("{{ 'a' * 10000000000 }}");
    assert_limited("{{ [1]|tojson(indent=100000000) }}");
    assert_limited("{{ 'a'|indent(100000000, true) }}");
    assert_limited("{{ 'a'.ljust(100000000) }}{{ 'a'|center(1000000000) }}");
    assert_limited("{{ '%1000000000d' % 5 }}");
    assert_limited("{{ '{:1000000000}'.format(5) }}");
    assert_limited("{{ '%.1000000000f' % 5 }}");
    assert_limited("{{ 'a\tb'.expandtabs(10000000000) }}");
    assert_limited("{{ range(100000000)|list }}");
    assert_limited("{{ [1]|batch(10000000000, 'x')|list }}");
    assert_limited("{{ [1]|slice(10000000000)|list }}");
    let double = "{% set ns.x = ns.x + ns.x %}";
    assert_limited(&format!(
        "{{% set ns = namespace(x='ab') %}}{{% for i in range(99) %}}{double}{{% endfor %}}"
    ));
    assert_limited(&format!(
        "{{% set ns = namespace(x=[1]) %}}{{% for i in range(99) %}}{double}{{% endfor %}}"
    ));
    assert_limited(
        "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    );
    assert_limited(
        "{% for i in range(9999) %}{% for j in range(9999) %}{{ 'abcdefgh' * 99 }}{% endfor %}{% endfor %}",
    );
    assert_limited("{{ ('a,' * 8000000).split(',')|length }}{{ ('a' * 16000000)|list|length }}");
    assert_limited(
        "{% for a in range(99999) %}{% for b in range(99999) %}{% macro m() %}x{% endmacro %}{% endfor %}{% endfor %}",
    );
    assert_limited("{{ 9 ** 99 ** 99 }}");
}

#[test]
fn depth_is_limited() {
    for (open, close) in [
        ("(", ")"),
        ("[", "]"),
        ("not ", ""),
        ("-", ""),
        ("{1:", "}"),
    ] {
        let source = format!("{{{{ {}1{} }}}}", open.repeat(25_000), close.repeat(25_000));
        assert_limited(&source);
    }
    for chain in [
        "()",
        ".a",
        "[0]",
        "|upper",
        "+1",
        " ~ 1 + 1",
        " or 1",
        " and 1",
        " if a else b",
    ] {
        let source = format!("{{{{ a{} }}}}", chain.repeat(25_000));
        match render(source) {
            Err(Error::TemplateLimit(_)) => {}
            other => panic!("{chain}: {:.200}", format!("{other:?}")),
        }
    }
    assert_limited(&format!(
        "{}{}",
        "{% if a %}".repeat(25_000),
        "{% endif %}".repeat(25_000)
    ));
    assert_limited("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}");
    assert_limited(
        "{% macro m() %}{{ [[[[[[[[m()|upper|lower]]]]]]]] ~ 'a' }}{% endmacro %}{{ m() }}",
    );
    assert_limited("{% for a in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}");
    assert_limited(&"{{ 'a' }}".repeat(200_000));
    assert_limited(
        "{% set ns = namespace() %}{% for i in range(99999) %}{% set ns.a = namespace(b=ns.a) %}{% endfor %}",
    );
}

#[test]
fn deep_but_sensible_templates_run() {
    let deep = "(".repeat(50) + "1" + &")".repeat(50);
    assert_eq!(render(format!("{{{{ {deep} }}}}")).unwrap(), "1");
    let sum = " + 1".repeat(150);
    assert_eq!(render(format!("{{{{ 0{sum} }}}}")).unwrap(), "150");
    let macros =
        "{% macro m(n) %}{% if n > 0 %}{{ n ~ m(n - 1) }}{% endif %}{% endmacro %}{{ m(20) }}";
    assert!(render(macros.into()).unwrap().starts_with("2019"));
    // A long conversation, accumulated in a namespace.
    let long = "{% set ns = namespace(s='') %}{% for i in range(500) %}{% set ns.s = ns.s ~ 'word ' * 50 %}\
                {% endfor %}{{ ns.s|length }}";
    assert_eq!(render(long.into()).unwrap(), "125000");
}

#[test]
fn errors_are_one_line_and_of_their_kind() {
    let error = |source: &str| render(source.into()).unwrap_err();
    assert!(matches!(error("{% for %}"), Error::TemplateSyntax(_)));
    assert!(matches!(
        error("{{ x|nosuch }}"),
        Error::TemplateUnsupported(_)
    ));
    assert!(matches!(error("{{ x.y }}"), Error::TemplateFailed(_)));
    let raised = error("{{ raise_exception('one\ntwo') }}");
    assert!(matches!(&raised, Error::TemplateRaised(m) if m == "one two"));
    assert_eq!(
        error("a\n{{ x|striptags }}").to_string(),
        "the chat template uses the filter `striptags`, which is not supported"
    );
    assert_eq!(
        error("a\n{{ none + 1 }}").to_string(),
        "the chat template failed: unsupported operand type(s) for +: 'NoneType' and 'int' (line 2)"
    );
}

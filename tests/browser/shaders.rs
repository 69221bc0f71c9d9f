//! Prints every variant of every kernel as browsers get it, as JSON: a test compiles them there.

use serde_json::json;
use siskin_gpu::link_for_browser;
use siskin_tests::shader_variants;

fn main() {
    let all: Vec<_> = shader_variants()
        .into_iter()
        .filter_map(|(kernel, variant)| {
            let source = link_for_browser(kernel, &variant).ok()?;
            Some(json!({ "name": format!("{kernel} {variant:?}"), "source": source }))
        })
        .collect();
    println!("{}", json!(all));
}
